package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// fakeTracer is a publisher that sends what the test says.
type fakeTracer struct {
	mu   sync.Mutex
	who  busylamp.Presentity
	f    func(sipnet.Traced) // nil: nobody looks
	full error
}

func (p *fakeTracer) Trace(who busylamp.Presentity, f func(sipnet.Traced)) (func(), error) {
	if p.full != nil {
		return nil, p.full
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.who, p.f = who, f
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.f = nil
	}, nil
}

// send waits for somebody to look, and sends.
func (p *fakeTracer) send(t *testing.T, m sipnet.Traced) {
	t.Helper()
	p.await(t, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.f(m)
}

// await waits until somebody looks, or nobody.
func (p *fakeTracer) await(t *testing.T, looks bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		now := p.f != nil
		p.mu.Unlock()
		if now == looks {
			return
		}
	}
	t.Fatalf("somebody looks: not %v within 10 s", looks)
}

// traceServer is the HTTP interface of a sidecar with two publishers, "presence", whose
// filter leaves sip:out@example.com out, and "second".
type traceServer struct {
	addr  string
	one   *fakeTracer
	two   *fakeTracer
	leave context.CancelCauseFunc // the sidecar ends
}

func newTraceServer(t *testing.T) *traceServer {
	cfg := smallConfig()
	second := cfg.Publishers[0]
	second.Name = "second"
	cfg.Publishers[0].Filter.Except = []string{"^sip:out@"}
	cfg.Publishers = append(cfg.Publishers, second)
	s := &traceServer{one: &fakeTracer{}, two: &fakeTracer{}}
	car := &sidecar{cfg: cfg, log: quietLog(), traces: make(chan struct{}, maxTraces), tracers: []tracer{s.one, s.two}}
	ctx, cancel := context.WithCancelCause(context.Background())
	server := httptest.NewUnstartedServer(car.routes(ctx))
	// As the real one's, only shorter: a trace must outlive them.
	server.Config.ReadTimeout, server.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	server.Start()
	t.Cleanup(func() {
		cancel(nil)
		server.Close()
	})
	s.addr, s.leave = strings.TrimPrefix(server.URL, "http://"), cancel
	return s
}

// run runs the command's work beside the test. wait returns what it printed.
func (s *traceServer) run(o traceOptions) (cancel func(), wait func() (stdout, stderr string, err error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var stdout, stderr bytes.Buffer
	ended := make(chan error, 1)
	o.admin = s.addr
	go func() { ended <- o.run(ctx, &stdout, &stderr) }()
	return cancel, func() (string, string, error) {
		err := <-ended
		cancel()
		return stdout.String(), stderr.String(), err
	}
}

var someMessage = sipnet.Traced{Time: time.Date(2026, 1, 2, 15, 4, 5, 123e6, time.Local), Sent: true, Transport: "udp",
	Local: netip.MustParseAddrPort("192.0.2.9:40000"), Remote: netip.MustParseAddrPort("192.0.2.1:5060"),
	Message: "PUBLISH sip:a@example.com SIP/2.0\r\nContent-Length: 4\r\n\r\n<a/>"}

func TestTrace(t *testing.T) {
	s := newTraceServer(t)
	_, wait := s.run(traceOptions{presentity: "sips:%61@Example.com", life: time.Minute})
	s.one.await(t, true)
	time.Sleep(150 * time.Millisecond) // beyond the server's own deadlines
	s.one.send(t, someMessage)
	answer := someMessage
	answer.Sent, answer.Message = false, "SIP/2.0 200 \x1b[2J\u202eOK\xff\r\nContent-Length: 0\r\n\r\n"
	s.two.send(t, answer)
	s.leave(nil)
	stdout, stderr, err := wait()
	want := "15:04:05.123 -> 192.0.2.1:5060 udp (presence, from 192.0.2.9:40000)\n" +
		"PUBLISH sip:a@example.com SIP/2.0\nContent-Length: 4\n\n<a/>\n\n" +
		"15:04:05.123 <- 192.0.2.1:5060 udp (second, to 192.0.2.9:40000)\n" +
		"SIP/2.0 200 \\u001b[2J\\u202eOK\\xff\nContent-Length: 0\n\n" +
		"… ended: the sidecar stops\n"
	if err != nil || stdout != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, stdout, want)
	}
	if stderr != "waiting for SIP about sip:a@example.com at all publishers for 1m0s; Ctrl-C ends\n" {
		t.Errorf("to standard error: %s", stderr)
	}
	s.one.await(t, false)
	s.two.await(t, false)
}

// TestTraceEnds: a trace says why it ends.
func TestTraceEnds(t *testing.T) {
	t.Run("time", func(t *testing.T) {
		t.Parallel()
		_, wait := newTraceServer(t).run(traceOptions{presentity: "sip:out@example.com", publisher: "presence", life: time.Second})
		stdout, _, err := wait()
		if err != nil || stdout != "… the filter of publisher presence leaves out sip:out@example.com\n\n… ended: 1s have passed\n" {
			t.Errorf("%v, %s", err, stdout)
		}
	})
	t.Run("a reload", func(t *testing.T) {
		t.Parallel()
		s := newTraceServer(t)
		_, wait := s.run(traceOptions{presentity: "sip:a@example.com", publisher: "second", life: time.Minute})
		s.two.await(t, true)
		s.one.await(t, false)
		s.leave(busylamp.ErrHandOver)
		if stdout, _, err := wait(); err != nil || stdout != "… ended: the sidecar has a new configuration\n" {
			t.Errorf("%v, %s", err, stdout)
		}
	})
	t.Run("an interrupt", func(t *testing.T) {
		t.Parallel()
		s := newTraceServer(t)
		interrupt, wait := s.run(traceOptions{presentity: "sip:a@example.com", life: time.Minute})
		s.one.await(t, true)
		interrupt()
		if _, stderr, err := wait(); err != nil || !strings.HasSuffix(stderr, "… ended: interrupted\n") {
			t.Errorf("%v, %s", err, stderr)
		}
		s.one.await(t, false)
	})
	t.Run("a lost connection", func(t *testing.T) {
		t.Parallel()
		dying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}))
		defer dying.Close()
		s := &traceServer{addr: strings.TrimPrefix(dying.URL, "http://")}
		_, wait := s.run(traceOptions{presentity: "sip:a@example.com", life: time.Minute})
		if _, _, err := wait(); err == nil || !strings.Contains(err.Error(), "is lost") || !strings.Contains(err.Error(), "killed?") {
			t.Errorf("got %v", err)
		}
	})
}

// TestTraceSlowReader: nobody waits for a reader that does not read, and what it missed is
// counted to the last message.
func TestTraceSlowReader(t *testing.T) {
	s := newTraceServer(t)
	res, err := http.Get("http://" + s.addr + "/api/v1/trace?presentity=sip:a@example.com&for=1h")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	const n, size = 5000, 8 << 10 // far more than sockets hold
	m := someMessage
	m.Message = strings.Repeat("x", size)
	start := time.Now()
	for range n {
		s.one.send(t, m)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%d messages to nobody took %v", n, took)
	}
	s.leave(nil)
	var text bytes.Buffer
	text.ReadFrom(res.Body)
	shown, dropped := strings.Count(text.String(), " -> "), 0
	for _, d := range regexp.MustCompile(`… (\d+) messages? dropped`).FindAllStringSubmatch(text.String(), -1) {
		var k int
		fmt.Sscan(d[1], &k)
		dropped += k
	}
	if shown == 0 || dropped == 0 || shown+dropped != n {
		t.Errorf("%d shown and %d dropped of %d", shown, dropped, n)
	}
	if !strings.HasSuffix(text.String(), "… ended: the sidecar stops\n") {
		t.Error("the end is not told")
	}
}

// TestTraceErrors: each says what to do.
func TestTraceErrors(t *testing.T) {
	s := newTraceServer(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	who, life := "sip:a@example.com", 10*time.Minute
	for _, tt := range []struct {
		name string
		traceOptions
		want string
	}{
		{"nobody there", traceOptions{who, "", freeAddr(t), life}, "no sidecar answers at "},
		{"nobody there", traceOptions{who, "", freeAddr(t), life}, "connection refused: start it with busylamp run, or name its HTTP interface with --admin"},
		{"somebody else there", traceOptions{who, "", strings.TrimPrefix(other.URL, "http://"), life}, "answers 404 Not Found: is that a sidecar of this version (dev)? name its HTTP interface with --admin"},
		{"a bad presentity", traceOptions{"alice", "", s.addr, life}, `presentity: URI "alice": not a sip:, sips: or tel: URI: write it like sip:alice@example.com`},
		{"a stranger", traceOptions{"sip:a@example.org", "", s.addr, life}, "presentity sip:a@example.org is in none of the configured domains, so that nothing is published for it: write it as /api/v1/presentities does"},
		{"a publisher", traceOptions{who, "first", s.addr, life}, `publisher "first" is not configured: write presence or second`},
		{"a short time", traceOptions{who, "", s.addr, time.Millisecond}, `for: "1ms" is not a duration from 1s to 24h: write such as 10m`},
		{"a long time", traceOptions{who, "", s.addr, 25 * time.Hour}, `for: "25h0m0s" is not a duration from 1s to 24h: write such as 10m`},
	} {
		err := tt.run(context.Background(), &bytes.Buffer{}, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", tt.name, err, tt.want)
		}
	}
	s.two.full = errors.New("publisher second: 16 traces are running: end one first")
	if err := (traceOptions{who, "", s.addr, life}).run(context.Background(), &bytes.Buffer{}, &bytes.Buffer{}); err == nil || err.Error() != s.two.full.Error() {
		t.Errorf("too many at a publisher: %v", err)
	}
	s.one.await(t, false)
}

// TestTracesAreBounded: the ninth is refused, and let in when one has ended.
func TestTracesAreBounded(t *testing.T) {
	s := newTraceServer(t)
	get := func() (int, func()) {
		res, err := http.Get("http://" + s.addr + "/api/v1/trace?presentity=sip:a@example.com")
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, func() { res.Body.Close() }
	}
	var first func()
	for i := range maxTraces {
		code, end := get()
		if code != 200 {
			t.Fatalf("trace %d: %d", i, code)
		}
		if i == 0 {
			first = end
		} else {
			defer end()
		}
	}
	err := (traceOptions{presentity: "sip:a@example.com", admin: s.addr, life: time.Minute}).run(context.Background(), &bytes.Buffer{}, &bytes.Buffer{})
	if err == nil || err.Error() != "8 traces are under way, and no more are possible: end one of them" {
		t.Errorf("got %v", err)
	}
	first()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		code, done := get()
		done()
		if code == 200 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still %d", code)
		}
	}
}

// TestTraceCommand: the command finds the interface in a configuration whose secrets it
// cannot read.
func TestTraceCommand(t *testing.T) {
	s := newTraceServer(t)
	path := writeFile(t, publisher("server: sip:a\n    username: me\n    password_file: /nowhere")+"admin: "+s.addr+"\n")
	code, stdout, stderr := command(t, nil, "trace", "sip:a@example.com", "-c", path, "--for", "1s", "--publisher", "second")
	if code != 0 || stdout != "… ended: 1s have passed\n" || !strings.Contains(stderr, "at publisher second for 1s") {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
	for want, args := range map[string][]string{
		"accepts 1 arg(s)": {"trace"},
		"127.0.0.1:9448":   {"trace", "sip:a@example.com"}, // the default, where there is no file and no sidecar
		"or name the sidecar's HTTP interface with --admin":                   {"trace", "sip:a@example.com", "-c", path + ".none"},
		"no HTTP interface to ask":                                            {"trace", "sip:a@example.com", "-c", writeFile(t, small+"admin: off\n")},
		"invalid argument \"soon\" for \"--for\"":                             {"trace", "sip:a@example.com", "--for", "soon"},
		"presentity: URI \"a\": not a sip:, sips: or tel: URI: write it like": {"trace", "a", "-c", path},
	} {
		if code, stdout, stderr := command(t, nil, args...); code == 0 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, %s, %s", args, code, stdout, stderr)
		}
	}
}
