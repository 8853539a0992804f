package main

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEnvironment(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		change  func(*config)
	}{
		{"nothing of ours", []string{"HOME=/", "busylamp_admin=x", "BUSYLAMP", "BUSYLAMP_E2E=1", "BUSYLAMP_CONFIG=x"}, func(*config) {}},
		{"a Kubernetes service", []string{"BUSYLAMP_SERVICE_HOST=10.0.0.1", "BUSYLAMP_SERVICE_PORT_HTTP=9448",
			"BUSYLAMP_PORT=tcp://10.0.0.1:9448", "BUSYLAMP_PORT_9448_TCP_ADDR=10.0.0.1"}, func(*config) {}},
		{"a key", []string{"BUSYLAMP_ADMIN=off"}, func(c *config) { c.Admin = "" }},
		{"an empty value", []string{"BUSYLAMP_ADMIN="}, func(c *config) { c.Admin = "" }},
		{"the last counts", []string{"BUSYLAMP_STATE=/a", "BUSYLAMP_STATE=/b=c"}, func(c *config) { c.State = "/b=c" }},
		{"a key with _", []string{"BUSYLAMP_ON_STOP=withdraw"}, func(c *config) { c.OnStop = "withdraw" }},
		{"one key of a section", []string{"BUSYLAMP_LOG_LEVEL=debug"}, func(c *config) { c.Log.Level = "debug" }},
		{"a duration", []string{"BUSYLAMP_AUDIT=1m"}, func(c *config) { c.Audit = time.Minute }},
		{"a list of words", []string{"BUSYLAMP_DOMAINS=A.example, b.example"}, func(c *config) { c.Domains = []string{"a.example", "b.example"} }},
		{"one key of an entry", []string{"BUSYLAMP_KAMAILIO_0_EVAPI=192.0.2.1:1"}, func(c *config) { c.Kamailio[0].Evapi = "192.0.2.1:1" }},
		{"a number", []string{"BUSYLAMP_PUBLISHERS_0_MAX_OUTSTANDING=7"}, func(c *config) { c.Publishers[0].MaxOutstanding = 7 }},
		{"another entry", []string{"BUSYLAMP_PUBLISHERS_1_SERVER=sip:b", "BUSYLAMP_PUBLISHERS_1_NAME=b"}, func(c *config) {
			pub := defaultPublisher()
			pub.Name, pub.Server = "b", "sip:b"
			c.Publishers = append(c.Publishers, pub)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := smallConfig()
			tt.change(&want)
			got, lines := loadText(t, small, tt.environ...)
			wantLines(t, lines)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// TestEnvironmentAlone configures everything that way, more than ten entries among it:
// _10_ comes after _2_.
func TestEnvironmentAlone(t *testing.T) {
	environ := []string{"BUSYLAMP_DOMAINS=example.com", "BUSYLAMP_PUBLISHERS_0_NAME=p", "BUSYLAMP_PUBLISHERS_0_SERVER=sip:p"}
	for _, i := range strings.Fields("0 1 2 3 4 5 6 7 8 9 10 11") {
		at := "BUSYLAMP_KAMAILIO_" + i
		environ = append(environ, at+"_RPC=fifo:/"+i, at+"_NAME=k"+i, at+"_EVAPI=k:1"+i)
	}
	for _, text := range []string{"", "log:\nkamailio:\npublishers: []\n"} {
		cfg, lines := loadText(t, text, environ...)
		wantLines(t, lines)
		if len(cfg.Kamailio) != 12 || cfg.Kamailio[10] != (proxyConfig{Name: "k10", Evapi: "k:110", RPC: "fifo:/10"}) {
			t.Errorf("got %+v", cfg.Kamailio)
		}
	}
}

var badEnvirons = []struct {
	name    string
	environ []string
	want    string
}{
	{"misspelt", []string{"BUSYLAMP_STAT=/x"}, "BUSYLAMP_STAT: unknown variable: did you mean BUSYLAMP_STATE?"},
	{"misspelt below", []string{"BUSYLAMP_PUBLISHERS_3_SERVR=x"}, "BUSYLAMP_PUBLISHERS_3_SERVR: unknown variable: did you mean BUSYLAMP_PUBLISHERS_3_SERVER?"},
	{"not known", []string{"BUSYLAMP_COLOUR=hunter2"}, "BUSYLAMP_COLOUR: unknown variable: unset it, or name a key by its path, such as BUSYLAMP_LOG_LEVEL"},
	{"section", []string{"BUSYLAMP_LOG=debug"}, "BUSYLAMP_LOG: a whole section, which no variable can replace: set its keys, such as BUSYLAMP_LOG_LEVEL"},
	{"list", []string{"BUSYLAMP_PUBLISHERS=x"}, "BUSYLAMP_PUBLISHERS: a whole section, which no variable can replace: set its keys, such as BUSYLAMP_PUBLISHERS_0_NAME"},
	{"entry", []string{"BUSYLAMP_PUBLISHERS_0=x"}, "BUSYLAMP_PUBLISHERS_0: a whole section, which no variable can replace: set its keys, such as BUSYLAMP_PUBLISHERS_0_NAME"},
	{"names", []string{"BUSYLAMP_NAMES=x"}, "BUSYLAMP_NAMES: the entries of names can only be set in the file"},
	{"one name", []string{"BUSYLAMP_NAMES_X=x"}, "BUSYLAMP_NAMES_X: the entries of names can only be set in the file"},
	{"domain by number", []string{"BUSYLAMP_DOMAINS_0=x"}, "BUSYLAMP_DOMAINS_0: unknown variable: did you mean BUSYLAMP_DOMAINS?"},
	{"gap", []string{"BUSYLAMP_PUBLISHERS_2_NAME=x"}, "BUSYLAMP_PUBLISHERS_2_NAME: publishers[2]: the list has 1 entry, so the next number is 1"},
	{"half an entry", []string{"BUSYLAMP_PUBLISHERS_1_NAME=x"}, "BUSYLAMP_PUBLISHERS_1_NAME: publishers[1].server: missing: give the presence server, such as sip:presence.example.com"},
	{"duration", []string{"BUSYLAMP_PUBLISHERS_0_EXPIRES=5"}, "BUSYLAMP_PUBLISHERS_0_EXPIRES: publishers[0].expires: 5 has no unit: write 5s for seconds, 5m for minutes"},
	{"number", []string{"BUSYLAMP_PUBLISHERS_0_MAX_OUTSTANDING=many"}, `BUSYLAMP_PUBLISHERS_0_MAX_OUTSTANDING: publishers[0].max_outstanding: "many" is not a whole number: write digits alone`},
	{"word", []string{"BUSYLAMP_SIDES=left"}, `BUSYLAMP_SIDES: sides: "left" is not known: write both, caller or callee`},
	{"empty", []string{"BUSYLAMP_STATE="}, `BUSYLAMP_STATE: state: "" is no directory: write its path, such as /var/lib/busylamp`},
	{"no domain", []string{"BUSYLAMP_DOMAINS="}, "BUSYLAMP_DOMAINS: domains: missing: give at least one domain whose users' presence is published"},
	{"no domain at the end", []string{"BUSYLAMP_DOMAINS=a.example,"}, `BUSYLAMP_DOMAINS: domains[1]: "" is not a domain: write a host name or an IP address alone, such as example.com`},
	{"too many domains", []string{"BUSYLAMP_DOMAINS=a" + strings.Repeat(",a", 1000)}, "BUSYLAMP_DOMAINS: domains: 1001 entries: at most 1000 are possible"},
	{"no UTF-8", []string{"BUSYLAMP_STATE=/\xff"}, `BUSYLAMP_STATE: state: "/\xff" has control characters or is no UTF-8: write plain text on one line`},
}

func TestEnvironmentBad(t *testing.T) {
	for _, tt := range badEnvirons {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := loadText(t, small, tt.environ...)
			wantLines(t, lines, tt.want)
		})
	}
}

// TestEveryKeyHasAVariable keeps a new key from clashing with what is passed over, and of
// a type that nothing reads.
func TestEveryKeyHasAVariable(t *testing.T) {
	for _, at := range allKeys("", reflect.TypeFor[config]()) {
		name := strings.ToUpper(strings.NewReplacer("[]", "_0", ".", "_").Replace(at))
		_, f, ok := resolve(name, field{kind: reflect.TypeFor[config]()})
		if !ok {
			t.Errorf("%s: no variable", at)
		}
		if name = envPrefix + name; envService.MatchString(name) {
			t.Errorf("%s: %s may be Kubernetes'", at, name)
		}
		switch k := f.kind; {
		case k == durationType, !isScalar(k), k.Kind() == reflect.String, k.Kind() == reflect.Int, k.Kind() == reflect.Bool:
		default:
			t.Errorf("%s: load does not know the type %s", at, k)
		}
	}
}
