package plugin

import (
	"strings"
	"testing"
	"time"
)

type section struct {
	Server   string            `yaml:"server"`
	Interval time.Duration     `yaml:"interval"`
	Port     uint16            `yaml:"port"`
	Strict   bool              `yaml:"strict"`
	Ratio    float64           `yaml:"ratio"`
	Password string            `yaml:"password"`
	Accounts []account         `yaml:"accounts"`
	Digest   *account          `yaml:"digest"`
	Labels   map[string]string `yaml:"labels"`
	Start    time.Time         `yaml:"start"`
	common   `yaml:",inline"`
}

type common struct {
	Realm string `yaml:"realm"`
}

type account struct {
	User string `yaml:"user"`
}

// TestDecode reads every type that a section may hold; what is not there keeps its default.
func TestDecode(t *testing.T) {
	c := Config{json: []byte(`{"interval":"1m30s","port":5060,"strict":true,"ratio":0.5,"password":"\u0001😀\/",
		"accounts":[{"user":"a"},{"user":"b"}],"digest":{"user":"d"},"labels":{"k":"v"},"realm":"r","start":"2024-01-02T03:04:05Z"}`)}
	s := section{Server: "default"}
	if err := c.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Server != "default" || s.Interval != 90*time.Second || s.Port != 5060 || !s.Strict || s.Ratio != 0.5 ||
		s.Password != "\x01😀/" || len(s.Accounts) != 2 || s.Accounts[1].User != "b" || s.Digest == nil ||
		s.Digest.User != "d" || s.Labels["k"] != "v" || s.Realm != "r" || s.Start.Year() != 2024 {
		t.Errorf("%+v", s)
	}
}

// TestDecodeProblems shows that each mistake names its key and what should be there, and
// that no secret is shown.
func TestDecodeProblems(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"sevrer":"x"}`, "sevrer: unknown key: did you mean server?"},
		{`{"zzzzzzzz":"x"}`, "zzzzzzzz: unknown key: the keys here are server, interval, port, "},
		{`{"interval":5}`, "interval: is 5, which must be a duration such as 5s or 10m"},
		{`{"interval":"soon"}`, `interval: is "soon", which must be a duration such as 5s or 10m`},
		{`{"port":70000}`, "port: is 70000, which must be a whole number, not below 0"},
		{`{"port":-1}`, "port: is -1, which must be a whole number, not below 0"},
		{`{"port":1.5}`, "port: is 1.5, which must be a whole number"},
		{`{"strict":"maybe"}`, `strict: is "maybe", which must be true or false`},
		{`{"server":1001}`, "server: is 1001, which must be text: put it in quotes"},
		{`{"server":{"a":1}}`, "server: is a mapping, which must be text"},
		{`{"accounts":{"user":"a"}}`, "accounts: is a mapping, which must be a list"},
		{`{"accounts":[{"user":"a"},{"usr":"b"}]}`, "accounts[1].usr: unknown key: did you mean user?"},
		{`{"digest":"x"}`, `digest: is "x", which must be a section with keys of its own`},
		{`{"labels":{"k":[1]}}`, "labels.k: is a list, which must be text"},
		{`{"password":12345}`, "password: is another value, which must be text: put it in quotes"},
		{`[1]`, "the section is no mapping"},
	} {
		err := Config{json: []byte(c.json), keys: []Key{{Name: "password", Secret: true}}}.Decode(&section{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.json, err, c.want)
		}
	}
	if err := (Config{json: []byte(`{"a":1,"b":2}`)}).Decode(&section{}); len(asProblems(err)) != 2 {
		t.Errorf("both must be told: %v", err)
	}
	if err := (Config{}).Decode(section{}); err == nil {
		t.Error("no pointer must be an error")
	}
}

// TestMissing finds required keys, those of a section within only if that is there.
func TestMissing(t *testing.T) {
	keys := []Key{{Name: "server", Doc: "the server", Required: true}, {Name: "digest.user", Required: true}}
	for json, want := range map[string]int{
		``: 1, `{"server":null}`: 1, `{"server":"x"}`: 0, `{"server":"x","digest":{}}`: 1, `{"digest":{"user":"u"}}`: 1, `{"server":"x","digest":3}`: 0,
	} {
		if got := (Config{json: []byte(json), keys: keys}).missing(); len(got) != want {
			t.Errorf("%s: %v", json, got)
		}
	}
}

// FuzzDecode shows that no section ends the process.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"accounts":[{"user":null}],"digest":null,"labels":{"":""},"start":"x"}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = Config{json: b}.Decode(&section{})
	})
}
