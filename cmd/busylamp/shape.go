package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

var durationType = reflect.TypeFor[time.Duration]()

// field is a key of the configuration: a struct's field, or an entry of a list or map.
type field struct {
	key  string
	kind reflect.Type
	tag  reflect.StructTag
}

// fields returns the keys of a section.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, field{key: f.Tag.Get("koanf"), kind: f.Type, tag: f.Tag})
	}
	return out
}

// isScalar tells whether one text makes a value of the type.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Interface:
		return false
	}
	return true
}

// value returns what is usable of a YAML node, nil for nothing, and reports the rest.
func (p *problems) value(at string, n *yaml.Node, f field) any {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	word, isWord := f.tag.Lookup(strings.ToLower(n.Value)) // false or true
	switch {
	case isWord && n.ShortTag() == "!!bool":
		return word
	case f.kind.Kind() == reflect.Interface:
		return p.anything(at, n)
	case isScalar(f.kind):
		return p.scalarNode(at, n, f)
	case n.ShortTag() == "!!null": // all keys below are commented out
		return nil
	case f.kind.Kind() == reflect.Slice:
		return p.list(at, n, f)
	case f.kind.Kind() == reflect.Map:
		return p.table(at, n, f)
	default:
		return p.section(at, n, f.kind)
	}
}

// section returns the keys of a struct.
func (p *problems) section(at string, n *yaml.Node, t reflect.Type) any {
	if n.ShortTag() == "!!null" {
		return nil
	}
	pairs, ok := p.pairs(at, n)
	if !ok {
		return nil
	}
	known := fields(t)
	out := make(map[string]any, len(pairs))
	for _, kv := range pairs {
		i := indexField(known, kv.key)
		if i < 0 {
			p.unknownKey(at, kv, known, pairs)
			continue
		}
		if v := p.value(child(at, kv.key), kv.value, known[i]); v != nil {
			out[kv.key] = v
		}
	}
	return out
}

func indexField(fs []field, key string) int {
	for i, f := range fs {
		if f.key == key {
			return i
		}
	}
	return -1
}

// table returns the entries of a map, whose keys are anybody's.
func (p *problems) table(at string, n *yaml.Node, f field) any {
	pairs, ok := p.pairs(at, n)
	if !ok || !p.fits(at, len(pairs), f) {
		return nil
	}
	out := make(map[string]any, len(pairs))
	for _, kv := range pairs {
		if v := p.value(child(at, kv.key), kv.value, field{kind: f.kind.Elem()}); v != nil {
			out[kv.key] = v
		}
	}
	return out
}

// list returns the entries of a list. One that is not usable leaves an empty one, so that
// the others keep their numbers.
func (p *problems) list(at string, n *yaml.Node, f field) any {
	if n.Kind != yaml.SequenceNode || n.ShortTag() != "!!seq" {
		p.add(at, p.describe(at, n)+`: write a list, each entry on a line of its own that begins with "- "`)
		return nil
	}
	if !p.fits(at, len(n.Content), f) {
		return nil
	}
	out := make([]any, 0, len(n.Content))
	for i, e := range n.Content {
		here := entry(at, i)
		p.origins[here] = placeOf(e)
		v := p.value(here, e, field{kind: f.kind.Elem()})
		if v == nil {
			p.add(here, "an empty entry: fill it in or remove it")
			v = emptyEntry(f.kind.Elem())
		}
		out = append(out, v)
	}
	return out
}

// anything returns what a plugin's key holds. Whether it may, the plugin knows; here it has
// to be something that JSON can say.
func (p *problems) anything(at string, n *yaml.Node) any {
	var v any
	err := n.Decode(&v)
	if err == nil {
		_, err = json.Marshal(v)
	}
	if err != nil {
		p.add(at, "cannot be passed on to the plugin: write text, numbers, true or false, lists, and sections whose keys are text")
		return nil
	}
	return v
}

func emptyEntry(t reflect.Type) any {
	if isScalar(t) {
		return reflect.Zero(t).Interface()
	}
	return map[string]any{}
}

// fits tells whether a list or map is within its bound. It comes before a look at the
// entries, so that YAML aliases cannot make much of little.
func (p *problems) fits(at string, n int, f field) bool {
	most, err := strconv.Atoi(f.tag.Get("max"))
	if err == nil && n > most {
		p.add(at, fmt.Sprintf("%d entries: at most %d are possible", n, most))
		return false
	}
	return true
}

// pair is a key of a YAML mapping.
type pair struct {
	key   string
	value *yaml.Node
}

// pairs returns the keys of a mapping, each once, and notes where they are.
func (p *problems) pairs(at string, n *yaml.Node) ([]pair, bool) {
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		p.add(at, p.describe(at, n)+": write a section: keys with their values below it, further to the right")
		return nil, false
	}
	lines := make(map[string]int, len(n.Content)/2)
	out := make([]pair, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		here := child(at, k.Value)
		switch first, again := lines[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			p.report(placeOf(n.Content[i]), "a key that is not text: write key: value")
		case k.ShortTag() == "!!merge":
			p.report(placeOf(k), here+": YAML's merge key is not supported: write the keys out")
		case again:
			p.report(placeOf(k), fmt.Sprintf("%s: given on line %d already: remove one of them", here, first))
		default:
			lines[k.Value] = k.Line
			p.origins[here] = placeOf(k)
			out = append(out, pair{k.Value, n.Content[i+1]})
		}
	}
	return out, true
}

// scalarNode returns a value that is one text, of the type that YAML takes it for.
func (p *problems) scalarNode(at string, n *yaml.Node, f field) any {
	tag := n.ShortTag()
	number := tag == "!!int" || tag == "!!float"
	switch {
	case tag == "!!null":
		p.add(at, "no value: write one, or remove the key for its default")
	case n.Kind != yaml.ScalarNode:
		p.add(at, p.describe(at, n)+": write one value")
	case f.kind == durationType && number, tag == "!!str" && (f.kind == durationType || f.kind.Kind() == reflect.String),
		tag == "!!int" && f.kind.Kind() == reflect.Int, tag == "!!bool" && f.kind.Kind() == reflect.Bool:
		return p.scalar(at, n.Value, f)
	case f.kind.Kind() == reflect.Int:
		p.add(at, p.describe(at, n)+": write a whole number, without quotes")
	case f.kind.Kind() == reflect.Bool:
		p.add(at, p.describe(at, n)+": write true or false, without quotes")
	case f.kind == durationType:
		p.add(at, p.describe(at, n)+": "+durationFix)
	default:
		p.add(at, p.describe(at, n)+": write text; in quotes it is "+p.show(at, quote(n.Value)))
	}
	return nil
}

var kinds = map[string]string{"!!str": "text", "!!int": "a number", "!!float": "a number", "!!bool": "true or false",
	"!!timestamp": "a date", "!!map": "a section", "!!seq": "a list"}

// describe tells what a node is, for whoever wrote something else than is wanted.
func (p *problems) describe(at string, n *yaml.Node) string {
	what, ok := kinds[n.ShortTag()]
	switch {
	case !ok:
		return "the tag " + p.show(at, n.ShortTag()) + " is not supported"
	case n.Kind != yaml.ScalarNode:
		return what + " is here"
	case what == "text":
		return p.show(at, quote(n.Value)) + " is text"
	default:
		return p.show(at, bare(n.Value)) + " is " + what
	}
}

// scalar makes a value of a text, from the file or the environment, and checks the rules
// of its tags. A duration stays text for now.
func (p *problems) scalar(at, text string, f field) any {
	switch {
	case f.kind == durationType:
		return p.duration(at, text, f)
	case f.kind.Kind() == reflect.Int:
		return p.whole(at, text, f)
	case f.kind.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			p.bad(at, text, "is neither: write true or false")
			return nil
		}
		return text == "true"
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		p.bad(at, text, "has control characters or is no UTF-8: write plain text on one line")
		return nil
	}
	if list, ok := f.tag.Lookup("oneof"); ok {
		words := strings.Split(list, ",")
		for _, w := range words {
			if w == text {
				return text
			}
		}
		p.bad(at, text, "is not known: write "+either(words))
		return nil
	}
	return text
}

func either(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

const durationFix = "write a number with its unit (s, m or h), such as 600s or 10m"

var bareNumber = regexp.MustCompile(`^\d{1,9}(\.\d{1,9})?$`)

func (p *problems) duration(at, text string, f field) any {
	if bareNumber.MatchString(text) {
		shown := p.show(at, text)
		p.add(at, fmt.Sprintf("%s has no unit: write %ss for seconds, %sm for minutes", shown, shown, shown))
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		p.bad(at, text, "is not a duration: "+durationFix)
		return nil
	}
	low, high := f.tag.Get("min"), f.tag.Get("max")
	least, _ := time.ParseDuration(low)
	most, err := time.ParseDuration(high)
	if d < least || err == nil && d > most {
		p.outOfRange(at, text, f)
		return nil
	}
	return text
}

func (p *problems) whole(at, text string, f field) any {
	least, _ := strconv.Atoi(f.tag.Get("min"))
	most, bounded := strconv.Atoi(f.tag.Get("max"))
	n, err := strconv.ParseInt(text, 0, 32)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		p.bad(at, text, "is not a whole number: write digits alone")
		return nil
	case err != nil || int(n) < least || bounded == nil && int(n) > most:
		p.outOfRange(at, text, f)
		return nil
	}
	return int(n)
}

func (p *problems) outOfRange(at, text string, f field) {
	p.add(at, fmt.Sprintf("%s is out of range: write %s to %s",
		p.show(at, bare(text)), f.tag.Get("min"), f.tag.Get("max")))
}
