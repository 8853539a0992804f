package busylamp

import (
	"strings"
	"testing"
)

func TestParsePresentity(t *testing.T) {
	for _, c := range []struct{ uri, want string }{
		{"sip:alice@example.com", "sip:alice@example.com"},
		{"SIP:Alice@EXAMPLE.com", "sip:Alice@example.com"}, // a user is case-sensitive, a host is not
		{"sips:alice@example.com:5061;transport=tls", "sip:alice@example.com"},
		{"sip:alice:secret@example.com", "sip:alice@example.com"},
		{"sip:alice@example.com?Replaces=x", "sip:alice@example.com"},
		{"sip:alice@example.com.", "sip:alice@example.com"},
		{"sip:alice@[2001:DB8::1]:5060", "sip:alice@[2001:db8::1]"},
		{"sip:+31612345678;phone-context=x@example.com", "sip:+31612345678;phone-context=x@example.com"},
		{"sip:%61lice@example.com", "sip:alice@example.com"},
		{"sip:a%2fb@example.com", "sip:a/b@example.com"},
		{"sip:a%20b@example.com", "sip:a%20b@example.com"},
		{"sip:a%c3%a9@example.com", "sip:a%C3%A9@example.com"},
		{"sip:aé@example.com", "sip:a%C3%A9@example.com"},
		{`sip:","epoch":"1@example.com`, "sip:%22,%22epoch%22@example.com"}, // ":" begins a password
		{`sip:a"b\c@example.com`, "sip:a%22b%5Cc@example.com"},
		{"sip:<x>@example.com", "sip:%3Cx%3E@example.com"},
		{"sip:a%40b@example.com", "sip:a%40b@example.com"},
		{"tel:+31612345678", "tel:+31612345678"},
		{"TEL:+31-6-(12)34.5678;phone-context=x", "tel:+31612345678"},
	} {
		got, err := ParsePresentity(c.uri)
		if err != nil || string(got) != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.uri, got, err, c.want)
		}
	}
	for _, uri := range []string{
		"", "sip:", "alice@example.com", "tel:31612345678", "tel:1001;phone-context=example.com", "tel:+1", "tel:+", "tel:", "tel:+1234567890123456", "tel:+12x45", "tel:+1+234", "tel:-+1234", "sip:example.com", "sip:@example.com", "sip::pw@example.com",
		"sip:alice@", "sip:alice@exa mple.com", "sip:alice@example.com@evil.org", "sip:alice@[", "sip:alice@[]",
		"sip:a\x00b@example.com", "sip:a\nb@example.com", "sip:a\x7fb@example.com", "sip:a\xff@example.com",
		"sip:a%2@example.com", "sip:a%zz@example.com", "sip:a@exa\"mple.com", "sip:a@exämple.com",
		"sip:" + strings.Repeat("a", 1000) + "@example.com",
		"sip:" + strings.Repeat("é", 100) + "@example.com", // within the limit, but not when escaped
	} {
		if got, err := ParsePresentity(uri); err == nil {
			t.Errorf("%.60q: got %q, want an error", uri, got)
		}
	}
}

// A URI that the snippet has cut at its limit is never taken for a shorter one.
func TestCutURI(t *testing.T) {
	uri := "sip:" + strings.Repeat("a", 235) + "@example.comevil.org"
	if cut := uri[:MaxURI+1]; len(cut) != MaxURI+1 {
		t.Fatal("the test's URI is too short")
	} else if p, err := ParsePresentity(cut); err == nil {
		t.Errorf("a cut URI became %s", p)
	}
}

// FuzzParsePresentity: canonical is canonical, and nothing strange gets through.
func FuzzParsePresentity(f *testing.F) {
	for _, s := range []string{"sip:alice@example.com", "sips:%61@[::1]:5061;x?y", `sip:"<\>%25@h`, "sip:a@b@c", "tel:+1-234;x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		p, err := ParsePresentity(uri)
		if err != nil {
			return
		}
		again, err := ParsePresentity(string(p))
		if err != nil || again != p {
			t.Fatalf("%q is %q, and that is %q, %v", uri, p, again, err)
		}
		if len(p) > MaxURI || p.User() == "" || (p.Domain() == "") != p.IsNumber() || strings.Contains(string(p), "@") == p.IsNumber() || strings.Count(string(p), "@") > 1 {
			t.Fatalf("%q gives %q", uri, p)
		}
		for i := range len(p) {
			if c := p[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\`, c) >= 0 {
				t.Fatalf("%q gives %q", uri, p)
			}
		}
	})
}

func BenchmarkParsePresentity(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePresentity("sip:john.doe@sfb.example:5060;transport=udp"); err != nil {
			b.Fatal(err)
		}
	}
}
