package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const sample = "busylamp.yaml"

// commentedOut is a key that is commented out: prose has one space after "#".
var commentedOut = regexp.MustCompile(`(?m)^( *)#((?:  )*[a-z_0-9]+:)`)

func TestSample(t *testing.T) {
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	want := smallConfig()
	got, lines := loadText(t, string(text))
	wantLines(t, lines)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("as it is: got\n%+v\nwant\n%+v", got, want)
	}
	everything := commentedOut.ReplaceAllString(string(text), "$1$2")
	got, lines = loadText(t, everything)
	wantLines(t, lines)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("with the defaults written out: got\n%+v\nwant\n%+v", got, want)
	}
	both := string(text) + readSources(t)
	want, lines = loadText(t, both)
	wantLines(t, lines)
	everything = commentedOut.ReplaceAllString(both, "$1$2")
	if got, lines = loadText(t, everything); !reflect.DeepEqual(got, want) {
		t.Errorf("with the sources, and the defaults written out: got\n%+v\nwant\n%+v", got, want)
	}
	wantLines(t, lines)
	var tree any
	if err := yaml.Unmarshal([]byte(everything), &tree); err != nil {
		t.Fatal(err)
	}
	for _, at := range allKeys("", reflect.TypeFor[config]()) {
		if !has(tree, strings.Split(strings.ReplaceAll(at, "[]", ".0"), ".")) {
			t.Errorf("%s is not in it", at)
		}
	}
}

// readSources returns the sample's second part.
func readSources(t *testing.T) string {
	text, err := os.ReadFile("sources.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func has(node any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	switch n := node.(type) {
	case []any:
		return len(n) > 0 && has(n[0], path[1:])
	case map[string]any:
		below, ok := n[path[0]]
		return ok && has(below, path[1:])
	}
	return false
}

// TestSampleTellsTheRules compares the comments with the tags: whoever changes a bound
// must change what is written about it.
func TestSampleTellsTheRules(t *testing.T) {
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	prose := strings.Join(strings.Fields(strings.ReplaceAll(string(text)+readSources(t), "#", " ")), " ")
	var rules func(reflect.Type)
	rules = func(kind reflect.Type) {
		for _, f := range fields(kind) {
			want := ""
			if words, ok := f.tag.Lookup("oneof"); ok {
				want = either(strings.Split(words, ","))
			} else if low, ok := f.tag.Lookup("min"); ok {
				want = low + " to " + f.tag.Get("max")
			}
			told := f.key == "profile" || f.key == "on_stop" // in words of their own
			if !told && !strings.Contains(prose, want) {
				t.Errorf("%s: the sample does not say %q", f.key, want)
			}
			if k := f.kind; k.Kind() == reflect.Struct {
				rules(k)
			} else if k.Kind() == reflect.Slice && k.Elem().Kind() == reflect.Struct {
				rules(k.Elem())
			}
		}
	}
	rules(reflect.TypeFor[config]())
}
