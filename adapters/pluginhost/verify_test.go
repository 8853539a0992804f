package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestVerify: a file that somebody else could have written or put there is refused, with
// what to do about it. The files belong to the user of the test, who may be root.
func TestVerify(t *testing.T) {
	t.Parallel()
	const text = "#!/bin/sh\n"
	sum := sha256.Sum256([]byte(text))
	digest := hex.EncodeToString(sum[:])
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(dir, path string, cfg *Config)
		want  string // "" for none
	}{
		{"good", func(_, _ string, c *Config) {}, ""},
		{"capitals", func(_, _ string, c *Config) { c.SHA256 = strings.ToUpper(c.SHA256) }, ""},
		{"unpinned and allowed", func(_, _ string, c *Config) { c.SHA256, c.AllowUnpinned = "", true }, ""},
		{"unpinned", func(_, _ string, c *Config) { c.SHA256 = "" }, "is not pinned: run busylamp plugin pin one"},
		{"another checksum", func(_, _ string, c *Config) { c.SHA256, c.AllowUnpinned = strings.Repeat("0", 64), true },
			" is " + digest + ", the configuration pins 0000"},
		{"changed", func(_, p string, c *Config) { must(os.WriteFile(p, []byte(text+"#"), 0o755)) }, "if you have replaced it on purpose, run busylamp plugin pin one"},
		{"missing", func(_, p string, c *Config) { must(os.Remove(p)) }, "does not exist: put the plugin there, or correct plugins.dir"},
		{"no directory", func(d, p string, c *Config) { must(os.RemoveAll(d)) }, "plugins.dir: "},
		{"relative", func(_, _ string, c *Config) { c.Path = "plugin" }, "plugin is not an absolute path"},
		{"written by all", func(_, p string, c *Config) { must(os.Chmod(p, 0o757)) }, "can be written by everybody (mode 0757): run chmod go-w"},
		{"written by a group", func(_, p string, c *Config) { must(os.Chmod(p, 0o775)) }, "can be written by its group (mode 0775): run chmod go-w"},
		{"not executable", func(_, p string, c *Config) { must(os.Chmod(p, 0o644)) }, "is not executable: run chmod 755"},
		{"setuid", func(_, p string, c *Config) { must(os.Chmod(p, 0o755|os.ModeSetuid)) }, "run chmod ug-s"},
		{"directory of all", func(d, _ string, c *Config) { must(os.Chmod(d, 0o777)) }, "can be written by everybody (mode 0777), who could replace the plugin"},
		{"sticky directory of all", func(d, _ string, c *Config) { must(os.Chmod(d, 0o777|os.ModeSticky)) }, "who could replace the plugin"},
		{"directory of a group above", func(d, _ string, c *Config) { must(os.Chmod(filepath.Dir(d), 0o775)) }, "can be written by its group (mode 0775), who could"},
		{"sticky directory above", func(d, _ string, c *Config) { must(os.Chmod(filepath.Dir(d), 0o777|os.ModeSticky)) }, ""},
		{"a directory", func(_, p string, c *Config) { must(os.Remove(p), os.Mkdir(p, 0o755)) }, "is not a regular file (d"},
		{"a fifo", func(_, p string, c *Config) { must(os.Remove(p), syscall.Mkfifo(p, 0o755)) }, "is not a regular file (p"},
		{"a link within", func(_, p string, c *Config) { must(os.Rename(p, p+"-1.2"), os.Symlink("plugin-1.2", p)) }, ""},
		{"a link out", func(d, p string, c *Config) { must(os.Remove(p), os.Symlink("/bin/sh", p)) }, "is a symbolic link to /"},
		{"a link to itself", func(_, p string, c *Config) { must(os.Remove(p), os.Symlink(p, p)) }, "too many links"},
		{"a linked directory", func(d, p string, c *Config) {
			must(os.Symlink(d, d+"-link"))
			c.Path = filepath.Join(d+"-link", "plugin")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(plugins(t), "dir")
			must(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755))
			path := script(t, dir, "plugin", text)
			cfg := Config{Name: "one", Path: path, SHA256: digest}
			c.spoil(dir, path, &cfg)
			err := Verify(cfg)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error: %v\nwant: %s", err, c.want)
			}
			var no refusal
			away := c.name == "missing" || c.name == "no directory"
			if err != nil && (isAbsence(err) != away || errors.As(err, &no) == away) {
				t.Errorf("neither a refusal nor an absence, or the wrong one: %v", err)
			}
		})
	}
}

// TestOwner: a file or directory of a third user is refused. Who is not root can test it on
// what is root's alone, which is fine.
func TestOwner(t *testing.T) {
	t.Parallel()
	dir := plugins(t)
	path := script(t, dir, "plugin", "#!/bin/sh\n")
	if os.Geteuid() != 0 {
		if err := Verify(Config{Path: "/bin/sh", AllowUnpinned: true}); err != nil {
			t.Error(err)
		}
		return
	}
	for _, what := range []string{path, dir} {
		if err := os.Chown(what, 12345, -1); err != nil {
			t.Fatal(err)
		}
		err := Verify(Config{Path: path, AllowUnpinned: true})
		if err == nil || !strings.Contains(err.Error(), what+" belongs to user 12345: it must belong to root") {
			t.Error(err)
		}
		if err := os.Chown(what, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSwap: what is run is the file whose digest was taken, whatever is in its place by then;
// and one that was written to meanwhile is found.
func TestSwap(t *testing.T) {
	t.Parallel()
	dir := plugins(t)
	path := script(t, dir, "plugin", "#!/bin/sh\necho the good one\n")
	s, err := newStarter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	b, err := verify(of("one", path, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer b.file.Close()
	script(t, dir, "evil", "#!/bin/sh\necho the evil one\n")
	if err := os.Rename(filepath.Join(dir, "evil"), path); err != nil {
		t.Fatal(err)
	}
	l := newLogs(logger(Config{}), 1)
	r := &runner{starter: s, file: b, logs: l, exited: make(chan struct{})}
	if err := r.prepare(nil, s.dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 100)
	n, _ := r.Stdout().Read(said)
	if got := string(said[:n]); got != "the good one\n" {
		t.Errorf("it runs %q", got)
	}
	r.remains()
	r.Stdout().Close()
	if err := b.unchanged(); err != nil {
		t.Error(err)
	}
	b, err = openBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.file.Close()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := b.unchanged(); err == nil || !strings.Contains(err.Error(), "was written to while it was started") {
		t.Error(err)
	}
}

// TestRefused: a refused plugin is told once, is not tried again by itself, and is tried at
// the next Apply, mended or not.
func TestRefused(t *testing.T) {
	t.Parallel()
	log := &notebook{}
	path := install(t, plugins(t), "raw")
	h := newHost(t, quick())
	cfg := of("one", path, "{}", log)
	cfg.SHA256 = strings.Repeat("1", 64)
	l := listen(t)
	h.Apply([]Config{cfg}, l)
	l.down(0, "the configuration pins 1111")
	eventually(t, "refusal", func() bool { return stateOf(h, 0) == refused })
	log.has(t, `level=ERROR msg="the plugin is refused until the next reload, or busylamp plugin restart one"`)
	time.Sleep(50 * time.Millisecond) // ten times the back-off
	if n := strings.Count(log.String(), "is refused"); n != 1 || h.Statuses()[0].Restarts != 0 {
		t.Errorf("told %d times, %+v", n, h.Statuses()[0])
	}
	h.Apply([]Config{cfg}, l)
	l.down(0, "the configuration pins 1111")
	var err error
	if cfg.SHA256, err = Digest(path); err != nil {
		t.Fatal(err)
	}
	h.Apply([]Config{cfg}, l)
	l.up(0)
}
