package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/busylamp/busylamp"
)

func TestFilter(t *testing.T) {
	const alice, bob, chief, meeting = "sip:alice@example.com", "sip:bob@example.org", "sip:1000@example.com", "sip:room-7@example.com"
	everybody := []busylamp.Presentity{alice, bob, chief, meeting}
	for _, tt := range []struct {
		name   string
		filter filterConfig
		want   string // the users who pass
	}{
		{"nothing: everybody", filterConfig{}, "alice bob 1000 room-7"},
		{"a domain", filterConfig{Domains: []string{"example.org"}}, "bob"},
		{"a domain's end is not the domain", filterConfig{Domains: []string{"ample.com"}}, ""},
		{"two domains", filterConfig{Domains: []string{"example.org", "example.com"}}, "alice bob 1000 room-7"},
		{"a user", filterConfig{Users: []string{alice}}, "alice"},
		{"an expression", filterConfig{Match: []string{"^sip:1[0-9]{3}@"}}, "1000"},
		{"anywhere in the URI", filterConfig{Match: []string{"o"}}, "alice bob 1000 room-7"},
		{"the scheme is part of it", filterConfig{Match: []string{"^alice"}}, ""},
		{"the host is part of it", filterConfig{Match: []string{`@example\.org$`}}, "bob"},
		{"case counts in it", filterConfig{Match: []string{"ALICE"}}, ""},
		{"unless it says otherwise", filterConfig{Match: []string{"(?i)ALICE"}}, "alice"},
		{"the one or the other", filterConfig{Domains: []string{"example.org"}, Users: []string{chief}, Match: []string{"^sip:room-", "zz"}}, "bob 1000 room-7"},
		{"all but", filterConfig{Except: []string{"^sip:room-", "^sip:bob@"}}, "alice 1000"},
		{"of these all but", filterConfig{Domains: []string{"example.com"}, Except: []string{"^sip:1"}}, "alice room-7"},
		{"an exception counts for a user, too", filterConfig{Users: []string{alice, bob}, Except: []string{"alice"}}, "bob"},
	} {
		f, err := newFilter(tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, who := range everybody {
			if f.wants(who) {
				got = append(got, who.User())
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v pass, want %s", tt.name, got, tt.want)
		}
	}
	if _, err := newFilter(filterConfig{Except: []string{"("}}); err == nil {
		t.Error("an expression that is none is taken")
	}
}

// BenchmarkFilter is what the engine waits for when somebody new is in a call.
func BenchmarkFilter(b *testing.B) {
	numbers := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("^sip:%d[0-9]{2,4}@", i))
		}
		return out
	}
	var users []string
	for i := range 100_000 {
		users = append(users, fmt.Sprintf("sip:user%d@example.com", i))
	}
	for _, bb := range []struct {
		name   string
		filter filterConfig
	}{
		{"domain", filterConfig{Domains: []string{"example.com"}}},
		{"100000 users", filterConfig{Users: users}},
		{"10 expressions", filterConfig{Match: numbers(10)}},
		{"1000 expressions", filterConfig{Match: numbers(1000)}},
		{"1000 loose expressions", filterConfig{Except: slices.Repeat([]string{`(.*[a-z.-]){5}&$`}, 1000)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			f, err := newFilter(bb.filter)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				f.wants("sip:nobody-in-particular@example.com")
			}
		})
	}
}
