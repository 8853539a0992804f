package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// lapse is a presence server that has lost its table and knows user "me": it takes no tag
// but its own, and nothing without credentials.
func lapse(c siptest.Request) {
	switch {
	case !strings.Contains(c.Header("Authorization"), `username="me"`):
		c.Reply(c.Answer("401 Unauthorized", `WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"`))
	case c.Header("SIP-If-Match") == "t1" && c.Header("Expires") != "0":
		c.Reply(c.Answer("412 Conditional Request Failed"))
	default:
		c.Accept("t2")
	}
}

// published waits for a request to a presence server and returns it.
func (s *instance) published(server *siptest.Server, what string, is func(siptest.Request) bool) (found siptest.Request) {
	s.t.Helper()
	s.until(what, func() bool {
		for _, c := range server.All() {
			if c.Header("Authorization") != "" && is(c) {
				found = c
				return true
			}
		}
		return false
	})
	return found
}

// TestServePublisher takes the keys of a publisher all the way: what was published before
// of somebody whom the filter leaves out is removed, at a start and at a reload; a lost
// publication begins anew with initial_expires; the trace, the API and the metrics tell.
func TestServePublisher(t *testing.T) {
	server := siptest.New(t, "udp", "127.0.0.1:0", lapse)
	dir, uri := t.TempDir(), "sip:"+server.Addr()
	d := openTest(t, dir)
	var records []busylamp.StoreOp
	for _, who := range []busylamp.Presentity{"sip:a@example.com", "sip:out@example.com"} {
		records = append(records, busylamp.StoreOp{Record: busylamp.Record{Publisher: "s", Presentity: who, Tag: "t1",
			State: busylamp.OnThePhone, Expires: time.Hour, Refresh: time.Second}})
	}
	d.keep(publisherAt(uri).ids(), records)
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml")}
	admin := freeAddr(t)
	configure := func(except string) {
		text := fmt.Sprintf("kamailio: [{name: p, evapi: '127.0.0.1:1', rpc: 'http://127.0.0.1:1/RPC'}]\ndomains: [example.com]\n"+
			"publishers: [{name: s, server: '%s', username: me, password: hunter2, user_agent: pbx/1, initial_expires: 60s, rate: 100,"+
			" filter: {domains: [example.com], except: ['%s']}}]\nadmin: %s\nstate: %s\nlog: {level: debug}\n", uri, except, admin, dir)
		if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	isRemoval := func(user string) func(siptest.Request) bool {
		return func(c siptest.Request) bool {
			return strings.Contains(c.StartLine(), "sip:"+user+"@") && c.Header("Expires") == "0"
		}
	}
	configure("^sip:out@")
	s.start()
	s.healthy(admin)
	trace := make(chan string, 1)
	go func() {
		var stdout, stderr bytes.Buffer
		err := traceOptions{presentity: "sip:a@example.com", admin: admin, life: time.Minute}.run(context.Background(), &stdout, &stderr)
		trace <- fmt.Sprintf("%v\n%s", err, stdout.String())
	}()
	initial := s.published(server, "an initial publication", func(c siptest.Request) bool {
		return strings.Contains(c.StartLine(), "sip:a@") && c.Header("SIP-If-Match") == ""
	})
	if initial.Header("Expires") != "60" || initial.Header("User-Agent") != "pbx/1" {
		t.Errorf("sent %s", initial.Raw)
	}
	s.published(server, "the removal of whom the filter leaves out", isRemoval("out"))
	s.until("the API tells", func() bool {
		code, body := s.get(admin, "/api/v1/publishers")
		return code == 200 && strings.Contains(body, `"transport": "udp"`) && strings.Contains(body, `"412": 1`) &&
			strings.Contains(body, `"address": "`+server.Addr()+`"`) && strings.Contains(body, `"in_use": true`)
	})
	if code, body := s.get(admin, "/metrics"); code != 200 || !strings.Contains(body, `busylamp_publish_answers_total{code="412",publisher="s"} 1`) ||
		!strings.Contains(body, `busylamp_publisher_hop_up{address="`+server.Addr()+`",publisher="s"} 1`) {
		t.Errorf("/metrics: %d %s", code, body)
	}
	configure("a")
	s.signal(syscall.SIGHUP)
	s.published(server, "the removal after a reload", isRemoval("a"))
	if text := <-trace; !strings.Contains(text, "<nil>\n") || !strings.Contains(text, "PUBLISH sip:a@example.com SIP/2.0\n") ||
		!strings.Contains(text, `Authorization: Digest username="me"`) || strings.Contains(text, "hunter2") || strings.Contains(text, "sip:out@") || !strings.HasSuffix(text, "… ended: the sidecar has a new configuration\n") {
		t.Errorf("the trace says %s", text)
	}
	s.signal(syscall.SIGTERM)
	s.ends(0)
	if strings.Contains(s.log.String(), "hunter2") {
		t.Error("the password is in the log")
	}
}

// TestServeTLS takes the keys of mutual TLS all the way, to a server by address.
func TestServeTLS(t *testing.T) {
	files, dir := keyFiles(t), t.TempDir()
	cert, err := tls.LoadX509KeyPair(files+"/own.crt", files+"/own.key")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile(files + "/other.crt")
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ours)
	server := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, func(c siptest.Request) { c.Accept("t2") })
	uri := "sips:" + server.Addr()
	d := openTest(t, dir)
	record := busylamp.Record{Publisher: "s", Presentity: "sip:a@example.com", Tag: "t1", State: busylamp.OnThePhone,
		Expires: time.Hour, Refresh: 100 * time.Millisecond}
	d.keep(publisherAt(uri).ids(), []busylamp.StoreOp{{Record: record}})
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	s := &instance{t: t, path: filepath.Join(t.TempDir(), "busylamp.yaml")}
	admin := freeAddr(t)
	text := fmt.Sprintf("kamailio: [{name: p, evapi: '127.0.0.1:1', rpc: 'http://127.0.0.1:1/RPC'}]\ndomains: [example.com]\n"+
		"publishers: [{name: s, server: '%s', tls: {ca_file: %s/own.crt, cert_file: %[2]s/other.crt, key_file: %[2]s/other.key}}]\n"+
		"admin: %s\nstate: %s\n", uri, files, admin, dir)
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.healthy(admin)
	s.until("a PUBLISH by TLS", func() bool { return len(server.All()) > 0 })
	s.until("the certificates' ends", func() bool {
		_, body := s.get(admin, "/metrics")
		return strings.Contains(body, `certificate_expiry_timestamp_seconds{publisher="s",which="own"} 1.`) &&
			strings.Contains(body, `certificate_expiry_timestamp_seconds{publisher="s",which="server"} 1.`)
	})
	if code, body := s.get(admin, "/api/v1/publishers"); code != 200 || !strings.Contains(body, `"transport": "tls"`) ||
		!strings.Contains(body, `"own_certificate_expires"`) || !strings.Contains(body, `"server_certificate_expires"`) {
		t.Errorf("/api/v1/publishers: %d %s", code, body)
	}
	s.signal(syscall.SIGTERM)
	s.ends(0)
}

// TestNewPublisher: what a publisher is configured with arrives where it has its effect.
func TestNewPublisher(t *testing.T) {
	files := keyFiles(t)
	cert, err := tls.LoadX509KeyPair(files+"/own.crt", files+"/own.key")
	if err != nil {
		t.Fatal(err)
	}
	proxy := siptest.NewTLS(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, func(c siptest.Request) { c.Accept("t1") })
	cfg := defaultPublisher()
	cfg.Name, cfg.Server, cfg.OutboundProxy, cfg.TLS.Verify = "s", "sip:presence.invalid", "sips:"+proxy.Addr(), "off"
	cfg.Rate, cfg.InitialExpires, cfg.MaxOutstanding, cfg.Sentinel = 7, time.Minute, 5, "off"
	cfg.Filter.Users = []string{"sip:a@example.com"}
	var log bytes.Buffer
	pub, core, err := newPublisher(cfg, "example.com", newLogger(logConfig{Level: "info"}, &log))
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	if core.Name != "s" || core.Rate != 7 || core.InitialExpires != time.Minute || core.Expires != 10*time.Minute || core.Max != 5 ||
		!core.NoSentinel || !core.Wants("sip:a@example.com") || core.Wants("sip:b@example.com") {
		t.Errorf("the engine's part is %+v", core)
	}
	if !strings.Contains(log.String(), "not verified") || !strings.Contains(log.String(), "publisher=s") {
		t.Errorf("no warning: %s", log.String())
	}
	out := pub.Publish(context.Background(), busylamp.Request{Kind: busylamp.Initial, Presentity: "sip:a@example.com",
		State: busylamp.OnThePhone, Expires: time.Minute})
	if out.Result != busylamp.Accepted {
		t.Fatalf("got %+v", out)
	}
	if c := proxy.All()[0]; !strings.Contains(c.Header("Route"), "presence.invalid") || c.Header("User-Agent") != "busylamp/dev" {
		t.Errorf("sent %s", c.Raw)
	}
}

// TestPublishersOverTheAPI: what is known of a way is told.
func TestPublishersOverTheAPI(t *testing.T) {
	pub := defaultPublisher()
	pub.Name, pub.Server, pub.OutboundProxy, pub.Username, pub.Password = "s", "sip:presence.example.com", "sips:proxy.example.com", "me", "hunter2"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	st := busylamp.PublisherStats{Codes: map[int]uint64{200: 7, 0: 2}, InFlight: 3, Waiting: 4, Down: true, Trouble: "silent", Refused: 5, Expires: 30 * time.Minute}
	ways := sipnet.Status{Certificate: at, DNS: errors.New("no such host"), Hops: []sipnet.Hop{
		{Address: netip.MustParseAddrPort("192.0.2.1:5061"), Transport: "tls", Name: "one.example.com", Since: at, Why: "refused"},
		{Address: netip.MustParseAddrPort("[2001:db8::1]:5061"), Transport: "tls", Name: "two.example.com", Up: true, InUse: true, Since: at}}}
	got, err := json.Marshal(newPublisherJSON(pub, st, ways))
	want := `{"name":"s","server":"sip:presence.example.com","outbound_proxy":"sips:proxy.example.com","transport":"tls","profile":"rpid",` +
		`"down":true,"trouble":"silent","hops":[` +
		`{"address":"192.0.2.1:5061","transport":"tls","name":"one.example.com","up":false,"in_use":false,"since":"2026-01-02T03:04:05Z","why_down":"refused"},` +
		`{"address":"[2001:db8::1]:5061","transport":"tls","name":"two.example.com","up":true,"in_use":true,"since":"2026-01-02T03:04:05Z"}],` +
		`"dns_error":"no such host","own_certificate_expires":"2026-01-02T03:04:05Z","outstanding":3,"waiting":4,"refused":5,` +
		`"expires_asked_for":1800,"answers":{"0":2,"200":7}}`
	if err != nil || string(got) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

// wayMetrics collects what is told of one way.
type wayMetrics sipnet.Status

func (wayMetrics) Describe(chan<- *prometheus.Desc) {}

func (w wayMetrics) Collect(ch chan<- prometheus.Metric) { collectWay(ch, "s", sipnet.Status(w)) }

// TestWayMetrics: an address that DNS gives twice does not cost the whole answer.
func TestWayMetrics(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	hop := sipnet.Hop{Address: netip.MustParseAddrPort("192.0.2.1:5061"), Up: true}
	down := sipnet.Hop{Address: netip.MustParseAddrPort("192.0.2.2:5061")}
	registry := prometheus.NewRegistry()
	registry.MustRegister(wayMetrics{Hops: []sipnet.Hop{hop, hop, down}, ServerCertificate: at})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.Metric {
			got = append(got, fmt.Sprintf("%s %s=%s %v", f.GetName(), m.Label[0].GetName(), m.Label[0].GetValue(), m.GetGauge().GetValue()))
		}
	}
	wantLines(t, got,
		"busylamp_publisher_certificate_expiry_timestamp_seconds publisher=s 1.8e+09",
		"busylamp_publisher_hop_up address=192.0.2.1:5061 1",
		"busylamp_publisher_hop_up address=192.0.2.2:5061 0")
}
