package main

import (
	"reflect"
	"slices"
	"strings"
)

// unknownKey reports a key that is not in a section, with the one that was meant.
func (p *problems) unknownKey(at string, kv pair, known []field, there []pair) {
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.key
	}
	here := child(at, kv.key)
	if meant := nearest(kv.key, names); meant != "" {
		p.add(here, "unknown key: did you mean "+meant+"?")
		if !slices.ContainsFunc(there, func(other pair) bool { return other.key == meant }) {
			p.cover(child(at, meant)) // it is misspelt, not missing
		}
		return
	}
	if places := keysNamed(kv.key); len(places) > 0 {
		p.add(here, "unknown key here: it belongs at "+either(places))
		return
	}
	p.add(here, "unknown key: the keys here are "+strings.Join(names, ", "))
}

// keysNamed returns the paths of the keys with a name, anywhere. log_level means
// log.level: it is BUSYLAMP_LOG_LEVEL in the environment.
func keysNamed(name string) []string {
	var out []string
	for _, at := range allKeys("", reflect.TypeFor[config]()) {
		last := at[strings.LastIndexByte(at, '.')+1:]
		if at != last && (name == last || name == strings.ReplaceAll(at, ".", "_")) {
			out = append(out, at)
		}
	}
	return out
}

// allKeys returns the paths of all keys of a type, entries of lists by "[]".
func allKeys(at string, t reflect.Type) []string {
	var out []string
	for _, f := range fields(t) {
		here := child(at, f.key)
		out = append(out, here)
		switch {
		case f.kind.Kind() == reflect.Struct:
			out = append(out, allKeys(here, f.kind)...)
		case f.kind.Kind() == reflect.Slice && f.kind.Elem().Kind() == reflect.Struct:
			out = append(out, allKeys(here+"[]", f.kind.Elem())...)
		}
	}
	return out
}

// nearest returns the candidate that a word is most likely a misspelling of, "" for none.
func nearest(word string, candidates []string) string {
	const longest = 64 // no key comes near
	if len(word) > longest {
		return ""
	}
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least && d <= len(c)/2 {
			best, least = c, d
		}
	}
	return best
}

// distance counts the bytes to insert, remove or replace (Levenshtein) between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
