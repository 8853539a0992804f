package sipnet

import "testing"

func TestParseTarget(t *testing.T) {
	for s, want := range map[string]Target{
		"sip:127.0.0.1:5090;transport=udp":       {"127.0.0.1", 5090, "udp"},
		"sip:presence.example.com":               {"presence.example.com", 0, "udp"},
		"sip:presence.example.com;transport=TCP": {"presence.example.com", 0, "tcp"},
		"sip:presence.example.com;transport=tls": {"presence.example.com", 0, "tls"},
		"sips:presence.example.com":              {"presence.example.com", 0, "tls"},
		"sips:[::1]:5099;transport=tls":          {"::1", 5099, "tls"},
		"sips:a;transport=tcp":                   {"a", 0, "tls"},
		"sip:[2001:db8::1]:5061;transport=tcp":   {"2001:db8::1", 5061, "tcp"},
		"sip:[::1]":                              {"::1", 0, "udp"},
		"sip:my_server-1.local:1;Transport=tcp":  {"my_server-1.local", 1, "tcp"},
	} {
		got, err := ParseTarget(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
		if again, err := ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, read as %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "sip:", "sips:", "127.0.0.1", "SIP:a", "http://a", "sip:a@b", "sip:a:0", "sip:a:65536", "sip:a:-1", "sip:a:",
		"sip:a:b", "sip:a;transport=sctp", "sips:a;transport=udp", "sip:a;transport", "sip:a;", "sip:a;lr", "sip:a;trasport=tcp", "sip:a;transport=udp;lr",
		"sip:a?x=y", "sip://a", "sip:::1", "sip:[::1", "sip:[a]", "sip:[127.0.0.1]", "sip:[fe80::1%25eth0]", "sip:[fe80::1%eth0]", "sip:a b", "sip:*"} {
		if got, err := ParseTarget(s); err == nil {
			t.Errorf("%s: %+v", s, got)
		}
	}
	for transport, want := range map[string]uint16{"udp": 5060, "tcp": 5060, "tls": 5061} {
		if got := (Target{Host: "a", Transport: transport}).port(); got != want {
			t.Errorf("%s: port %d, want %d", transport, got, want)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New takes no server")
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"sip:127.0.0.1:5090;transport=udp", "sip:[::1]:1;transport=tcp", "sip:a", "sips:a:1;transport=tls", "sip:[fe80::1%25x]", "sip:a:99999;transport="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			return
		}
		again, err := ParseTarget(target.String())
		if err != nil || again != target {
			t.Errorf("%q: %+v is written as %s, read as %+v, %v", s, target, target, again, err)
		}
	})
}
