package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Errorf returns a [Problem] of a key of the source's section; dots lead to sections within.
// The text says what is wrong with the value and how to mend it, and shows no secret.
func Errorf(key, format string, args ...any) error {
	return Problem{Key: key, Text: fmt.Sprintf(format, args...)}
}

// Decode reads the section into v, a pointer to a struct with yaml tags. What v holds already
// are the defaults. It is strict: an unknown key is a [Problem] that names the nearest known
// one, and so is a value of a wrong type; a time.Duration is written as 5s. Several problems
// come by errors.Join.
func (c Config) Decode(v any) error {
	to := reflect.ValueOf(v)
	if to.Kind() != reflect.Pointer || to.IsNil() || to.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("source: Decode wants a pointer to a struct, not %T", v)
	}
	section, err := c.section()
	if err != nil {
		return err
	}
	d := decoder{secrets: map[string]bool{}}
	for _, k := range c.keys {
		d.secrets[k.Name] = k.Secret
	}
	d.decode("", section, to.Elem())
	return errors.Join(d.problems...)
}

// section is the configuration as JSON has it: numbers stay as they are written.
func (c Config) section() (map[string]any, error) {
	section := map[string]any{}
	if len(bytes.TrimSpace(c.json)) == 0 {
		return section, nil
	}
	dec := json.NewDecoder(bytes.NewReader(c.json))
	dec.UseNumber()
	if err := dec.Decode(&section); err != nil {
		return nil, Errorf("", "the section is no mapping of keys to values: %v", err)
	}
	return section, nil
}

// missing returns a problem for each required key that is not there. One in a section within
// is missed only where its section is there.
func (c Config) missing() []Problem {
	section, err := c.section()
	if err != nil {
		return asProblems(err)
	}
	var out []Problem
	for _, k := range c.keys {
		at, name := section, k.Name
		for {
			first, rest, within := strings.Cut(name, ".")
			if !within {
				break
			}
			at, _ = at[first].(map[string]any)
			name = rest
		}
		if k.Required && at != nil && at[name] == nil {
			out = append(out, Problem{Key: k.Name, Text: "is missing: " + k.Doc})
		}
	}
	return out
}

// decoder reads values into fields and collects what is wrong.
type decoder struct {
	secrets  map[string]bool
	problems []error
}

// own is what reads itself: it is left to yaml.
var own = []reflect.Type{
	reflect.TypeFor[yaml.Unmarshaler](),
	reflect.TypeFor[interface{ UnmarshalText([]byte) error }](),
}

func (d *decoder) decode(at string, value any, to reflect.Value) {
	if value == nil {
		return // a key without a value keeps its default
	}
	readsItself := slices.ContainsFunc(own, reflect.PointerTo(to.Type()).Implements)
	switch {
	case readsItself:
		d.scalar(at, value, to)
	case to.Kind() == reflect.Struct:
		d.structure(at, value, to)
	case to.Kind() == reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		d.decode(at, value, to.Elem())
	case to.Kind() == reflect.Slice:
		d.list(at, value, to)
	case to.Kind() == reflect.Map && to.Type().Key().Kind() == reflect.String:
		d.mapping(at, value, to)
	default:
		d.scalar(at, value, to)
	}
}

func (d *decoder) structure(at string, value any, to reflect.Value) {
	fields := map[string]reflect.Value{}
	var known []string
	collect(to, fields, &known)
	section, ok := value.(map[string]any)
	if !ok {
		if slices.ContainsFunc(known, func(key string) bool { return d.secret(child(at, key)) }) {
			value = nil // it may be the secret that belongs within
		}
		d.wrong(at, value, "a section with keys of its own")
		return
	}
	for _, key := range sorted(section) {
		if field, ok := fields[key]; ok {
			d.decode(child(at, key), section[key], field)
			continue
		}
		hint := "the keys here are " + strings.Join(known, ", ")
		if meant := nearest(key, known); meant != "" {
			hint = "did you mean " + meant + "?"
		}
		d.problems = append(d.problems, Problem{Key: child(at, key), Text: "unknown key: " + hint})
	}
}

// collect finds the fields of a struct by the keys that yaml gives them.
func collect(v reflect.Value, fields map[string]reflect.Value, known *[]string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case strings.Contains(options, "inline") && f.Type.Kind() == reflect.Struct,
			f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			collect(v.Field(i), fields, known)
		case f.IsExported():
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			fields[name] = v.Field(i)
			*known = append(*known, name)
		}
	}
}

func (d *decoder) list(at string, value any, to reflect.Value) {
	values, ok := value.([]any)
	if !ok {
		d.wrong(at, value, "a list")
		return
	}
	out := reflect.MakeSlice(to.Type(), len(values), len(values))
	for i, v := range values {
		d.decode(at+"["+strconv.Itoa(i)+"]", v, out.Index(i))
	}
	to.Set(out)
}

func (d *decoder) mapping(at string, value any, to reflect.Value) {
	section, ok := value.(map[string]any)
	if !ok {
		d.wrong(at, value, "a mapping")
		return
	}
	out := reflect.MakeMapWithSize(to.Type(), len(section))
	for _, key := range sorted(section) {
		v := reflect.New(to.Type().Elem()).Elem()
		d.decode(child(at, key), section[key], v)
		out.SetMapIndex(reflect.ValueOf(key).Convert(to.Type().Key()), v)
	}
	to.Set(out)
}

// scalar reads a single value, as strictly as it was written: a number is no string.
func (d *decoder) scalar(at string, value any, to reflect.Value) {
	node := &yaml.Node{}
	if err := node.Encode(plain(value)); err != nil {
		d.wrong(at, value, wanted(to.Type()))
		return
	}
	_, isText := value.(string)
	if to.Kind() == reflect.String && !isText {
		d.wrong(at, value, "text: put it in quotes")
		return
	}
	if _, broken := plain(value).(float64); broken && to.CanInt() || broken && to.CanUint() {
		d.wrong(at, value, wanted(to.Type())) // yaml would cut it
		return
	}
	if err := node.Decode(to.Addr().Interface()); err != nil {
		var typed *yaml.TypeError
		if errors.As(err, &typed) {
			d.wrong(at, value, wanted(to.Type()))
			return
		}
		if !d.mayShow(at) {
			err = errors.New("has a wrong value")
		}
		d.problems = append(d.problems, Problem{Key: at, Text: err.Error()})
	}
}

// plain makes a JSON number a number of Go.
func plain(value any) any {
	n, ok := value.(json.Number)
	if !ok {
		return value
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u
	}
	f, err := n.Float64()
	if err != nil {
		return n.String()
	}
	return f
}

// wrong reports a value of a wrong type; it shows the value only where that is no secret.
func (d *decoder) wrong(at string, value any, want string) {
	is := "another value"
	switch v := value.(type) {
	case map[string]any:
		is = "a mapping"
	case []any:
		is = "a list"
	case string, bool, json.Number:
		if d.mayShow(at) {
			is = fmt.Sprintf("%.64v", v)
			if _, ok := v.(string); ok {
				is = fmt.Sprintf("%.64q", v)
			}
		}
	}
	d.problems = append(d.problems, Problem{Key: at, Text: "is " + is + ", which must be " + want})
}

// wanted describes what a type is written like.
func wanted(t reflect.Type) string {
	switch {
	case t.PkgPath() == "time" && t.Name() == "Duration":
		return "a duration such as 5s or 10m"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return "a whole number"
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		return "a whole number, not below 0"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.String:
		return "text"
	}
	return "of another type"
}

func child(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func sorted(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
