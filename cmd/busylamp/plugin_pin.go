package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"

	"github.com/busylamp/busylamp/adapters/pluginhost"
)

// pluginPin writes the digests of plugins into the configuration file, and returns the exit
// code. The rest of the file stays as it is, to the byte.
func pluginPin(name, path string, environ []string, stdout, stderr io.Writer) int {
	cfg, p := read(path, environ)
	if p.err() != nil {
		fmt.Fprintln(stderr, p.err())
		return 1
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "%s: %v\n", path, err)
		return 1
	}
	places, err := chosen(cfg, name)
	if err != nil {
		return fail(err)
	}
	cfgs, err := hostConfigs(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return fail(err)
	}
	text, err := readFile(path)
	if err != nil {
		return fail(err)
	}
	changed, lines := text, []string(nil)
	for _, i := range places {
		c := cfgs[i]
		digest, err := digestOf(c)
		if err != nil {
			return fail(fmt.Errorf("%s.plugin: %w", entry("sources", i), err))
		}
		if strings.EqualFold(digest, c.SHA256) {
			lines = append(lines, fmt.Sprintf("%s: %s is pinned already", c.Name, short(digest)))
			continue
		}
		next, err := setPin(changed, c.Name, digest)
		if err == nil {
			err = samePins(path, environ, next, cfg, i, digest)
		}
		if err != nil {
			return fail(fmt.Errorf("%s: %w: write this line into it by hand:\n    sha256: %q", entry("sources", i), err, digest))
		}
		changed = next
		cfg.Sources[i].SHA256 = digest
		was := c.SHA256
		if was == "" {
			was = "(none)"
		}
		lines = append(lines, fmt.Sprintf("%s: %s -> %s", c.Name, was, digest))
	}
	if !bytes.Equal(changed, text) {
		if err := replaceFile(path, text, changed); err != nil {
			return fail(fmt.Errorf("cannot be written: %w: write these lines into it by hand:\n%s", err, strings.Join(lines, "\n")))
		}
		lines = append(lines, path+": written; a sidecar that runs takes it at the next reload (SIGHUP)")
	}
	fmt.Fprintln(stdout, strings.Join(lines, "\n"))
	return 0
}

// digestOf returns the digest of a source's plugin, if but for the pin it can be run: a file
// that anybody can write is not worth a pin.
func digestOf(c pluginhost.Config) (string, error) {
	digest, err := pluginhost.Digest(c.Path)
	if err != nil {
		return "", err
	}
	c.SHA256 = digest
	return digest, pluginhost.Verify(c)
}

// samePins makes sure that a text, read as the configuration file is, says what it did but for
// one source's pin.
func samePins(path string, environ []string, text []byte, was config, i int, digest string) error {
	p := newProblems(path)
	tree := p.parse(text)
	p.environment(tree, environ)
	is := p.decode(tree)
	if p.err() != nil || i >= len(is.Sources) || len(is.Sources) != len(was.Sources) {
		return errors.New("the pin does not fit into the file")
	}
	if is.Sources[i].SHA256 != digest {
		return errors.New("its sha256 comes from the environment")
	}
	was.Sources = append([]sourceConfig(nil), was.Sources...)
	was.Sources[i].SHA256 = digest
	if !reflect.DeepEqual(is, was) {
		return errors.New("the pin would change something else in the file")
	}
	return nil
}

var (
	pinLine    = regexp.MustCompile(`^(\s*(?:- +)?sha256:)[ \t]*("[^"\\]*"|'[^']*'|[^\s#"'&*!|>{\[][^\s#]*)?([ \t]+#.*)?(\r?)$`)
	pluginLine = regexp.MustCompile(`^\s*(?:- +)?plugin:[ \t]+("[^"\\]*"|'[^']*'|[^\s#"'&*!|>{\[][^\s#]*)([ \t]+#.*)?(\r?)$`)
)

// setPin returns the file's text with a source's pin in it. Only lines that are plain are
// touched: the key alone on its line, in a section that is written in lines.
func setPin(text []byte, name, digest string) ([]byte, error) {
	source, err := sourceNode(text, name)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(source.Content); i += 2 {
		keys[source.Content[i].Value] = source.Content[i]
	}
	lines := strings.SplitAfter(string(text), "\n")
	line := func(n *yaml.Node) string { return strings.TrimSuffix(lines[n.Line-1], "\n") }
	if key := keys["sha256"]; key != nil {
		m := pinLine.FindStringSubmatch(line(key))
		if m == nil {
			return nil, fmt.Errorf("line %d is not plainly sha256: and its value", key.Line)
		}
		lines[key.Line-1] = strings.Replace(lines[key.Line-1], m[0], m[1]+` "`+digest+`"`+m[3]+m[4], 1)
		return []byte(strings.Join(lines, "")), nil
	}
	key := keys["plugin"]
	if key == nil {
		return nil, errors.New("it names no plugin")
	}
	m := pluginLine.FindStringSubmatch(line(key))
	if m == nil {
		return nil, fmt.Errorf("line %d is not plainly plugin: and its name", key.Line)
	}
	end := m[3] + "\n"
	lines[key.Line-1] = strings.TrimSuffix(line(key), "\r") + end +
		strings.Repeat(" ", key.Column-1) + `sha256: "` + digest + `"` + end
	return []byte(strings.Join(lines, "")), nil
}

// sourceNode finds a source's section in the file.
func sourceNode(text []byte, name string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) != 1 {
		return nil, errors.New("it is not in the file")
	}
	for _, source := range valueOf(doc.Content[0], "sources").Content {
		if valueOf(source, "name").Value != name {
			continue
		}
		if source.Kind != yaml.MappingNode || source.Style&yaml.FlowStyle != 0 {
			return nil, fmt.Errorf("line %d: it is not written with each key on a line of its own", source.Line)
		}
		return source, nil
	}
	return nil, errors.New("it is not in the file, but in the environment or behind a YAML alias")
}

// valueOf returns the value of a key, an empty node for none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	}
	return &yaml.Node{}
}

// replaceFile puts a new text in the place of a file, all or nothing, with the file's mode and
// owner. was is what the new text was made of.
func replaceFile(path string, was, text []byte) (err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || !ok {
		return fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	} else if err != nil {
		return fmt.Errorf("the file belongs to user %d and group %d, who would lose it: run this as root", st.Uid, st.Gid)
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, was) {
		return errors.New("somebody else has changed it meanwhile: try again")
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
