package pluginhost

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBadStarts: whatever is wrong with a start is told in words that help, and what trying
// again would not mend is a refusal.
func TestBadStarts(t *testing.T) {
	dir := plugins(t)
	s, err := newStarter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	sh := func(name, text string) string { return script(t, dir, name, "#!/bin/sh\n"+text+"\n") }
	greet := func(name, line string) string { return sh(name, "echo '"+line+"'; exec sleep 100") }
	greetHere := func(name, cert string) string {
		return sh(name, `echo "1|1|unix|$TMPDIR/socket|grpc|`+cert+`"; exec sleep 100`)
	}
	for _, c := range []struct {
		path     string
		plain    bool // without mTLS
		settings string
		want     string
		refused  bool
	}{
		{path: install(t, dir, "silent"), want: "it was not ready within 500ms"},
		{path: install(t, dir, "exit"), want: "the process ended (exit status 3), saying: no licence found"},
		{path: sh("clean", "exit 0"), want: "the process ended by itself"},
		{path: sh("python", "echo 'Traceback (most recent call last):' >&2; echo '  File \"x\", line 1' >&2; echo 'ImportError: no module named grpc' >&2; exit 1"),
			want: "the process ended (exit status 1), saying: ImportError: no module named grpc"},
		{path: greet("garbage", "Hello, world"), want: `it begins with "Hello, world" where a plugin's greeting belongs (1|1|unix|PATH|grpc)`, refused: true},
		{path: sh("endless", "exec cat /dev/zero"), want: `it begins with "" where a plugin's greeting belongs`, refused: true},
		{path: install(t, dir, "version2"), want: "it speaks version \"2\" of the contract, and this busylamp version 1: install the plugin's build for version 1", refused: true},
		{path: greet("netrpc", "1|1|unix|/x|netrpc"), want: `it speaks "netrpc": a source speaks grpc`, refused: true},
		{path: greet("tcp", "1|1|tcp|127.0.0.1:1|grpc"), plain: true, want: "a source has to listen on a unix socket", refused: true},
		{path: greet("elsewhere", "1|1|unix|/tmp/x/../y|grpc"), plain: true, want: `its socket is "/tmp/x/../y", where others may be`, refused: true},
		{path: greet("nocert", "1|1|unix|/x|grpc"), want: "set mtls: off for it", refused: true},
		{path: greet("cert", "1|1|unix|/x|grpc|"+strings.Repeat("A", 100)), plain: true, want: "set mtls: on for it", refused: true},
		{path: greetHere("badcert", strings.Repeat("A", 100)), want: "error parsing server cert"},
		{path: greetHere("goodcert", certificate(t)), plain: true, want: "set mtls: on for it", refused: true}, // go-plugin panics
		{path: greetHere("othercert", certificate(t)), want: "no such file or directory"},
		{path: sh("nobody", `echo "1|1|unix|$TMPDIR/socket|grpc"; exec sleep 100`), plain: true, want: "no such file or directory"},
		{path: script(t, dir, "noexec", "\x00\x01\x02"), want: "cannot be run: exec format error: was it built for this system", refused: true},
		{path: script(t, dir, "nointerpreter", "#!/no/such/program\n"), want: "cannot be run: no such file or directory: is what it runs by there"},
		{path: busyFile(t, sh("busy", "exit 0")), want: "cannot be run: text file busy"},
		{path: install(t, dir, "badserves"), want: `it serves "(", which is no regular expression (RE2)`, refused: true},
		{path: install(t, dir, "slowdescribe"), want: "it did not describe itself within 300ms"},
		{path: install(t, dir, "raw"), settings: `{"do":"problem"}`, want: "do: is no good: write something else", refused: true},
		{path: install(t, dir, "raw2"), settings: `[]`, want: "json: cannot unmarshal array"},
	} {
		t.Run(filepath.Base(c.path), func(t *testing.T) {
			timing := quick()
			if strings.Contains(c.want, "within") {
				timing.start, timing.describe = 500*time.Millisecond, 300*time.Millisecond
				if strings.Contains(c.want, "describe") {
					timing.start = patience
				}
			}
			cfg := of("one", c.path, c.settings, nil)
			cfg.MTLS, cfg.Log = !c.plain, logger(cfg)
			p, err := start(context.Background(), s, timing, cfg)
			if err == nil {
				p.end(0)
				t.Fatal("it started")
			}
			var no refusal
			if !strings.Contains(err.Error(), c.want) || errors.As(err, &no) != c.refused {
				t.Errorf("error (refused: %v): %v\nwant (refused: %v): %s", errors.As(err, &no), err, c.refused, c.want)
			}
			if p != nil && p.runner.cmd != nil && p.runner.cmd.Process != nil && !gone(p.runner.cmd.Process.Pid) {
				t.Error("the process is still there")
			}
			if left, _ := filepath.Glob(s.dir + "/*"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// busyFile has a file open for writing until the test ends, as who copies to it has.
func busyFile(t *testing.T, path string) string {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path
}

// certificate returns one as a plugin sends it.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawStdEncoding.EncodeToString(der)
}

// TestPython: a script in Python finds the modules beside it, though it is run by its
// descriptor.
func TestPython(t *testing.T) {
	dir := plugins(t)
	s, err := newStarter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	script(t, dir, "neighbour.py", "name = 'found'\n")
	path := script(t, dir, "source.py", "#!/usr/bin/env python3\nimport neighbour, sys\nprint(neighbour.name, sys.argv[0][-9:], flush=True)\n")
	_, err = start(context.Background(), s, quick(), withLog(of("one", path, "", nil)))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", "found source.py")) {
		t.Error(err)
	}
}

func withLog(c Config) Config {
	c.Log = logger(c)
	return c
}
