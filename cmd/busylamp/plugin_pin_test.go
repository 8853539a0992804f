package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pluginhost"
)

// TestPluginPin: one line of the file changes, or comes, and nothing else; a file that is not
// plain stays as it is, and the line to write is told.
func TestPluginPin(t *testing.T) {
	dir := pluginDir(t)
	digest, err := pluginhost.Digest(filepath.Join(dir, "test-source"))
	if err != nil {
		t.Fatal(err)
	}
	former := strings.Repeat("a", 64)
	pin := `sha256: "` + digest + `"`
	for _, c := range []struct {
		name, text, want string // want: "" where nothing is written
		environ          []string
		says             string // on either
		args             []string
	}{
		{name: "a new line", says: "one: (none) -> " + digest,
			text: "sources:\n  - name: one # first\n    plugin: test-source   # here\n    config: {a: 1}\nwatch: []\n",
			want: "sources:\n  - name: one # first\n    plugin: test-source   # here\n    " + pin + "\n    config: {a: 1}\nwatch: []\n"},
		{name: "after the dash", text: "sources:\n-   plugin: \"test-source\"\n    name: one",
			want: "sources:\n-   plugin: \"test-source\"\n    " + pin + "\n    name: one"},
		{name: "at the end", text: "sources:\n- name: one\n  plugin: test-source", want: "sources:\n- name: one\n  plugin: test-source\n  " + pin + "\n"},
		{name: "with CRLF", text: "sources:\r\n- name: one\r\n  plugin: test-source\r\n# end\r\n",
			want: "sources:\r\n- name: one\r\n  plugin: test-source\r\n  " + pin + "\r\n# end\r\n"},
		{name: "another pin", says: "one: " + former + " -> " + digest,
			text: "sources:\n  - name: one\n    sha256: '" + former + "'  # old\n    plugin: test-source\n",
			want: "sources:\n  - name: one\n    " + pin + "  # old\n    plugin: test-source\n"},
		{name: "a plain one with CRLF", text: "sources:\r\n- sha256: " + former + "\r\n  name: one\r\n  plugin: test-source\r\n",
			want: "sources:\r\n- " + pin + "\r\n  name: one\r\n  plugin: test-source\r\n"},
		{name: "an empty one", text: "sources:\n- name: one\n  sha256: \"\"\n  plugin: test-source\n", want: "sources:\n- name: one\n  " + pin + "\n  plugin: test-source\n"},
		{name: "two of three", args: []string{}, says: "two: " + digest[:12] + " is pinned already",
			text: "sources:\n- name: one\n  plugin: test-source\n- name: two\n  plugin: test-source\n  sha256: " + digest + "\n- name: three\n  plugin: test-source\n",
			want: "sources:\n- name: one\n  plugin: test-source\n  " + pin + "\n- name: two\n  plugin: test-source\n  sha256: " + digest + "\n- name: three\n  plugin: test-source\n  " + pin + "\n"},
		{name: "the second alone", args: []string{"two"},
			text: "sources:\n- name: one\n  plugin: test-source\n- name: two\n  plugin: test-source\n",
			want: "sources:\n- name: one\n  plugin: test-source\n- name: two\n  plugin: test-source\n  " + pin + "\n"},
		{name: "written in one line", text: "sources: [{name: one, plugin: test-source}]\n", says: "it is not written with each key on a line of its own: write this line into it by hand:\n    " + pin},
		{name: "over two lines", text: "sources:\n- name: one\n  plugin:\n    test-source\n", says: "line 7 is not plainly plugin: and its name"},
		{name: "a block", text: "sources:\n- name: one\n  plugin: test-source\n  sha256: >-\n    " + former + "\n", says: "line 8 is not plainly sha256: and its value"},
		{name: "on the next line", text: "sources:\n- name: one\n  plugin: test-source\n  sha256:\n    " + former + "\n", says: "does not fit into the file"},
		{name: "an alias", text: "sources:\n- &a\n  name: one\n  plugin: test-source\n- *a\n", args: []string{"one"}, says: "the pin would change something else"},
		{name: "pinned in the environment", environ: []string{"BUSYLAMP_SOURCES_0_SHA256=" + former},
			text: "sources:\n- name: one\n  plugin: test-source\n", says: "its sha256 comes from the environment"},
		{name: "of the environment", environ: []string{"BUSYLAMP_SOURCES_0_NAME=one", "BUSYLAMP_SOURCES_0_PLUGIN=test-source"}, text: "# nothing\n", says: "it is not in the file"},
		{name: "no plugin", text: "sources:\n- name: one\n  plugin: none\n", says: "sources[0].plugin: " + dir + "/none does not exist"},
		{name: "nobody", args: []string{"x"}, text: "sources:\n- name: one\n  plugin: none\n", says: `source "x" is not configured`},
		{name: "not YAML", text: "sources: [\n", says: "not YAML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := configFile(t, dir, c.text)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := pluginRun(t, c.environ, append([]string{"pin", "-c", path}, c.args...)...)
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := string(before)
			if c.want != "" {
				want = strings.Replace(want, c.text, c.want, 1)
			}
			if (code == 0) != (c.want != "") || string(after) != want || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("exit code %d\n%s%s\n%s\nwant\n%s", code, stdout, stderr, after, want)
			}
			left, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(left) != 1 {
				t.Errorf("%d files are left, %v", len(left), err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("its mode is %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestPluginPinLink: behind a symbolic link the file is replaced, and not the link; a plugin
// that everybody can write is not pinned; and what was pinned passes the check.
func TestPluginPinLink(t *testing.T) {
	dir := pluginDir(t)
	path := configFile(t, dir, "sources:\n- name: one\n  plugin: test-source\n")
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := pluginRun(t, nil, "pin", "-c", link); code != 0 {
		t.Fatal(stderr)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is none any more")
	}
	if code, stdout, stderr := pluginRun(t, nil, "check", "-c", path); code != 0 {
		t.Errorf("%s%s", stdout, stderr)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := pluginRun(t, nil, "pin", "-c", path); code != 1 || !strings.Contains(stderr, "can be written by everybody") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestReplaceFile: a file that has changed meanwhile, or is none, stays.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("other"), []byte("new")); err == nil || !strings.Contains(err.Error(), "somebody else has changed it") {
		t.Error(err)
	}
	if err := replaceFile(dir, nil, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files, %v", len(left), err)
	}
}
