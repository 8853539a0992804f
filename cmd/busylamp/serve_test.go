package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// instance is a sidecar that runs inside the test, with nothing at its addresses.
type instance struct {
	t    *testing.T
	path string
	log  lockedBuffer
	code chan int
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// write writes the configuration; more is appended.
func (s *instance) write(admin, dir, more string) {
	s.t.Helper()
	text := fmt.Sprintf("kamailio: [{name: p, evapi: '127.0.0.1:1', rpc: 'http://127.0.0.1:1/RPC'}]\ndomains: [example.com]\n"+
		"publishers: [{name: s, server: 'sip:127.0.0.1:9;transport=tcp'}]\nadmin: %s\nstate: %s\n%s", admin, dir, more)
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *instance) start() {
	s.code = make(chan int, 1)
	go func() { s.code <- run([]string{"run", "-c", s.path}, nil, io.Discard, &s.log) }()
}

func (s *instance) get(admin, path string) (int, string) {
	once := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := once.Get("http://" + admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func (s *instance) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not within 20 s: %s\n%s", what, s.log.String())
		}
	}
}

func (s *instance) healthy(admin string) {
	s.t.Helper()
	s.until("healthy at "+admin, func() bool { code, _ := s.get(admin, "/healthz"); return code == 200 })
}

func (s *instance) signal(sig syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *instance) ends(want int) {
	s.t.Helper()
	select {
	case code := <-s.code:
		if code != want {
			s.t.Fatalf("exit code %d, want %d\n%s", code, want, s.log.String())
		}
	case <-time.After(20 * time.Second):
		s.t.Fatalf("does not end\n%s", s.log.String())
	}
}

// TestServe: start with a publication of an earlier life, a reload that cannot run, one
// that can, and the end: the publication is still there for the next life.
func TestServe(t *testing.T) {
	dir, taken := t.TempDir(), freeAddr(t)
	listener, err := net.Listen("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	d := openTest(t, dir)
	record := busylamp.Record{Publisher: "s", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone,
		Expires: time.Hour, Refresh: time.Hour}
	ids := publisherAt("sip:127.0.0.1:9;transport=tcp").ids()
	d.keep(ids, []busylamp.StoreOp{{Record: record}})
	if err := d.close(); err != nil {
		t.Fatal(err)
	}

	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml")}
	s.write(taken, dir, "") // a start that fails loses nothing
	s.start()
	s.ends(1)
	if !strings.Contains(s.log.String(), "choose another port") {
		t.Errorf("said %s", s.log.String())
	}

	first, second := freeAddr(t), freeAddr(t)
	s.write(first, dir, "")
	s.start()
	s.healthy(first)
	s.wantLit(first)

	s.write(taken, dir, "")
	s.signal(syscall.SIGHUP)
	s.until("going back", func() bool { return strings.Contains(s.log.String(), "going back to the old one") })
	s.healthy(first)

	s.write(first, dir, "sides: sideways\n")
	s.signal(syscall.SIGHUP)
	s.until("not reloaded", func() bool { return strings.Contains(s.log.String(), "configuration not reloaded") })

	s.write(second, dir, "")
	s.signal(syscall.SIGHUP)
	s.healthy(second)
	s.wantLit(second)
	s.signal(syscall.SIGTERM)
	s.ends(0)
	if records := openTest(t, dir).take(ids, quietLog()); len(records) != 1 || records[0].Tag != "t1" {
		t.Errorf("left %+v", records)
	}
}

// wantLit looks at what the HTTP interface says of the publication, which nobody could be
// asked about.
func (s *instance) wantLit(admin string) {
	s.t.Helper()
	s.until("lit", func() bool {
		code, body := s.get(admin, "/api/v1/presentities?presentity=sip:a@example.com")
		return code == 200 && strings.Contains(body, `"state": "on-the-phone"`)
	})
	if code, body := s.get(admin, "/readyz"); code != 503 || !strings.Contains(body, "proxy p: not connected") {
		s.t.Errorf("/readyz: %d %s", code, body)
	}
	if code, body := s.get(admin, "/metrics"); code != 200 || !strings.Contains(body, "busylamp_presentities 1") {
		s.t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := s.get(admin, "/api/v1/presentities?presentity=nobody"); code != 400 {
		s.t.Errorf("a bad presentity: %d", code)
	}
	if code, body := s.get(admin, "/api/v1/proxies"); code != 200 || !strings.Contains(body, `"connected": false`) {
		s.t.Errorf("/api/v1/proxies: %d %s", code, body)
	}
}

// TestWithdrawKeepsTheRest: what cannot be withdrawn is left to the next life.
func TestWithdrawKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir)
	ids := publisherAt("sip:127.0.0.1:9;transport=tcp").ids()
	record := busylamp.Record{Publisher: "s", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone,
		Expires: time.Hour, Refresh: time.Hour}
	d.keep(ids, []busylamp.StoreOp{{Record: record}})
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml")}
	admin := freeAddr(t)
	s.write(admin, dir, "on_stop: withdraw\n")
	s.start()
	s.healthy(admin)
	s.signal(syscall.SIGTERM)
	s.ends(0)
	records := openTest(t, dir).take(ids, quietLog())
	if len(records) != 1 || !records[0].Clear {
		t.Errorf("left %+v", records)
	}
}
