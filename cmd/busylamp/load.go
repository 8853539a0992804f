package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// maxFile is the largest configuration file, in bytes.
const maxFile = 8 << 20

// load reads the configuration file and the environment over it. The error has one line
// for each problem.
func load(path string, environ []string) (config, error) {
	cfg, p := read(path, environ)
	p.validate(&cfg)
	if err := p.err(); err != nil {
		return config{}, err
	}
	return cfg, nil
}

// loadAdmin is load for whoever needs no more than to find the HTTP interface, and may
// not be allowed to read the secrets and the certificates.
func loadAdmin(path string, environ []string) (string, error) {
	cfg, p := read(path, environ)
	cfg.Admin = p.admin(cfg.Admin)
	return cfg.Admin, p.err()
}

// read returns what is in the file and the environment, and what is wrong with its shape.
func read(path string, environ []string) (config, *problems) {
	p := newProblems(path)
	text, err := readFile(path)
	if err != nil {
		p.add("", err.Error()) // and nothing is told of what is missing then
		return config{}, p
	}
	tree := p.parse(text)
	p.environment(tree, environ)
	return p.decode(tree), p
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	// Its size says nothing about a pipe, which is a fine way to pass a configuration.
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("larger than %d MiB: is this the right file?", maxFile>>20)
	}
	return text, nil
}

// unreadable is a failure to read the configuration.
func unreadable(err error) error {
	return fmt.Errorf("cannot be read: %s: name the configuration file with -c", reason(err))
}

// parse returns what is usable of a YAML text: a tree that decode takes.
//
// koanf's own YAML parser is not used because it compares each key of a section with each
// other: 100,000 names take it a minute and a half. It has no line numbers either.
func (p *problems) parse(text []byte) map[string]any {
	var doc, next yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(&doc)
	if err == nil {
		err = dec.Decode(&next)
	}
	switch {
	case err == nil:
		p.report(placeOf(&next), "a second document, which would be ignored: remove the line --- before it")
	case !errors.Is(err, io.EOF):
		p.syntax(err)
	}
	tree := map[string]any{}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		if t, ok := p.section("", doc.Content[0], reflect.TypeFor[config]()).(map[string]any); ok {
			tree = t
		}
	}
	return tree
}

var (
	syntaxLine = regexp.MustCompile(`^line (\d+): `)
	// noAnchor quotes what follows a "*", which may be a password.
	noAnchor = regexp.MustCompile(`unknown anchor '.*' referenced`)
)

// syntax reports the YAML parser's error. What is missing then may well be there, below
// the error, so that nothing else is told.
func (p *problems) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = noAnchor.ReplaceAllString(text, "text that begins with * needs quotes")
	var where place
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		where.line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	p.report(where, "not YAML: "+bare(text)+": check the indentation, colons and quotes near there")
	p.cover("")
}

// placeOf returns the place of a node.
func placeOf(n *yaml.Node) place { return place{line: n.Line} }

// decode makes a configuration of a tree and the defaults.
func (p *problems) decode(tree map[string]any) config {
	cfg := defaults()
	k := koanf.New(".")
	err := k.Load(confmap.Provider(tree, ""), nil)
	if err == nil {
		err = k.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
			ErrorUnused: true,
			MatchName:   func(key, field string) bool { return key == field },
			DecodeHook: mapstructure.ComposeDecodeHookFunc(entryDefaults,
				mapstructure.StringToTimeDurationHookFunc()),
			Result: &cfg,
		}})
	}
	if err != nil { // cannot be: section has checked the tree
		at := ""
		var de *mapstructure.DecodeError
		if errors.As(err, &de) {
			at = de.Name()
		}
		p.add(at, "does not fit here: compare it with the sample busylamp.yaml")
	}
	return cfg
}

// entryDefaults fills an entry of a list before its keys are decoded over it.
func entryDefaults(from, to reflect.Value) (any, error) {
	if to.CanAddr() {
		switch e := to.Addr().Interface().(type) {
		case *publisherConfig:
			*e = defaultPublisher()
		case *sourceConfig:
			*e = defaultSource()
		case *endpointConfig:
			*e = defaultEndpoint()
		}
	}
	return from.Interface(), nil
}
