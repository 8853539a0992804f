package main

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// TestVerify: certificates are verified unless that is switched off, in both forms.
func TestVerify(t *testing.T) {
	t.Parallel()
	for _, list := range []bool{false, true} {
		for _, verify := range []any{nil, true, false} {
			c := map[string]any{"server": "sip:pbx.example.com;transport=tls", "uri": "sip:u@example.com"}
			if verify != nil {
				c["tls"] = map[string]any{"verify": verify}
			}
			if list {
				c = map[string]any{"accounts": []any{c}}
			}
			s := newSource()
			if err := plugintest.Configure(t, s, c); err != nil {
				t.Fatal(err)
			}
			if got, want := s.cfg.accounts[0].tls.SkipVerify, verify == false; got != want {
				t.Errorf("%v: not verified: %v", c, got)
			}
		}
	}
	beside := map[string]any{"tls": map[string]any{"verify": true}, "accounts": []any{map[string]any{"server": "x", "uri": "a@b"}}}
	if err := plugintest.Configure(t, newSource(), beside); err == nil || !strings.Contains(err.Error(), "accounts: they stand beside") {
		t.Errorf("%v", err)
	}
}

// TestDefaultExpires: a server that has lost its subscriptions is noticed within 10 minutes.
func TestDefaultExpires(t *testing.T) {
	t.Parallel()
	s := newSource()
	if err := plugintest.Configure(t, s, map[string]any{"server": "x", "uri": "a@b"}); err != nil || s.cfg.expires != 10*time.Minute {
		t.Errorf("%v, %v", s.cfg, err)
	}
}

// TestCanonical: the presentity that a list's URI is of.
func TestCanonical(t *testing.T) {
	t.Parallel()
	a := account{domain: "Example.com"}
	for uri, want := range map[string]string{
		"sip:+31612345678@example.com;user=phone":         "tel:+31612345678",
		"sip:+31612345678@EXAMPLE.com:5060":               "tel:+31612345678",
		"sip:+31-6.1234(5)678@other.org;x=y;User=Phone?a": "tel:+31612345678",
		"tel:+31-612345678;ext=1":                         "tel:+31612345678",
		"sip:+31612345678@other.org":                      "sip:+31612345678@other.org",
		"sip:+3161234x@example.com":                       "sip:+3161234x@example.com",
		"sip:+@example.com;user=phone":                    "sip:+@example.com",
		"sip:201@example.com;user=phone":                  "sip:201@example.com",
		"sips:%61lice:pw@Example.com:5061;x=y?z=1":        "sip:alice@example.com",
	} {
		if got := a.canonical(uri); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}

// TestDummy: our own address may be one that the server does not serve. It is up, and asked at
// its own address; and whether it knows ours is told.
func TestDummy(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 100)
	n := &notifier{t: t, onSub: serving, dialogs: map[string]*told{}, answers: make(chan siptest.Request, 100), requests: make(chan siptest.Request, 100), ready: make(chan struct{})}
	n.Server = siptest.New(t, "udp", "127.0.0.1:0", func(r siptest.Request) {
		switch {
		case strings.HasPrefix(r.Raw, "OPTIONS "):
			asked <- r.StartLine()
			r.Reply(r.Answer("403 Not relaying"))
		case strings.HasPrefix(r.Raw, "SUBSCRIBE sip:presence@"):
			r.Reply(r.Answer("403 Not relaying"))
		default:
			n.take(r)
		}
	})
	close(n.ready)
	h, _ := start(t, map[string]any{"server": n.Addr(), "uri": "sip:presence@domain.com"})
	h.connector(plugin.Up)
	h.watch(alice)
	h.sub(alice, plugin.Active)
	if a := <-asked; a != "OPTIONS sip:"+n.Addr()+" SIP/2.0" {
		t.Errorf("%s", a)
	}
	if a := <-asked; a != "OPTIONS sip:presence@domain.com SIP/2.0" {
		t.Errorf("%s", a)
	}
}

// TestDenied: a refusal of our account stands until a SUBSCRIBE is let pass, whatever OPTIONS
// are answered; it is tried after ever longer times.
func TestDenied(t *testing.T) {
	t.Parallel()
	l := &line{account: &account{}, client: nil}
	now := time.Now()
	no, yes := answer{code: 401, reason: "no"}, answer{code: 200}
	l.hear(now, no, true)
	l.hear(now.Add(time.Second), no, true) // was under way, too
	l.hear(now, answer{}, true)
	l.hear(now, yes, false)
	l.hear(now, answer{code: 404}, true)
	l.fetched(now, answer{code: 500})
	l.fetched(now, answer{})
	if l.denied != "401 no" || l.wait(now) != askDenied {
		t.Errorf("%q, wait %v", l.denied, l.wait(now))
	}
	now = l.again
	l.fetched(now, no)
	if l.denied == "" || l.wait(now) != 2*askDenied {
		t.Errorf("%q, wait %v", l.denied, l.wait(now))
	}
	l.fetched(now, answer{code: 403}) // let pass
	if l.denied != "" || l.wait(now) != 0 {
		t.Errorf("%q", l.denied)
	}
	for range 9 { // but the others are refused again and again
		l.hear(now, no, true)
		l.fetched(now, yes)
	}
	l.hear(now, no, true)
	if l.wait(now) != mostDenied {
		t.Errorf("wait %v", l.wait(now))
	}
	l.hear(now, yes, true)
	l.hear(now, no, true)
	if l.wait(now) != askDenied {
		t.Errorf("wait %v after a success", l.wait(now))
	}
}

// TestDeniedOverNet: OPTIONS are answered by 200 all the while; a wrong password is Forbidden
// all the same, and is not forgotten by the next word of the server.
func TestDeniedOverNet(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if open.Load() {
			serving(d, r)
			return
		}
		d.answer(r, "401 Unauthorized", `WWW-Authenticate: Digest realm="example.com", nonce="n`+d.tag+`", algorithm=MD5`)
	})
	h, _ := start(t, to(n, "password", "wrong"))
	h.connector(plugin.Up)
	h.watch(alice)
	h.sub(alice, plugin.AccessDenied)
	h.connector(plugin.Forbidden)
	w := &watcher{lines: []*line{{account: &account{}, denied: "401", next: make(chan question, 1)}}}
	w.lines[0].client = lineClient(t, n)
	w.lines[0].again = time.Now().Add(time.Minute)
	w.told = plugin.Connector{State: plugin.Forbidden, Reason: "401"}
	w.probed(time.Now(), probed{line: w.lines[0], word: answer{code: 200}})
	if q := <-w.lines[0].next; w.lines[0].denied == "" || !q.denied || q.pause < 50*time.Second {
		t.Errorf("denied %q, next %+v", w.lines[0].denied, q)
	}
	l := &line{account: &account{uri: sip.Uri{Scheme: "sip", User: "me", Host: "example.com"}}, client: w.lines[0].client, timeout: patience, life: t.Context()}
	if p := l.ask(question{denied: true}); p.fetched.code != 401 || p.word.code != 401 {
		t.Errorf("%+v", p)
	}
	open.Store(true)
	if p := l.ask(question{denied: true}); p.fetched.code != 200 {
		t.Errorf("%+v", p)
	}
}

// TestPeerChallenge: whoever a Contact names gets no answer to a challenge of a realm that the
// server has not asked for; the refresh goes by the server then.
func TestPeerChallenge(t *testing.T) {
	t.Parallel()
	evil, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { evil.Close() })
	got := make(chan string, 10)
	go func() {
		b := make([]byte, 65536)
		for {
			k, a, err := evil.ReadFrom(b)
			if err != nil {
				return
			}
			r := siptest.Request{Raw: string(b[:k])}
			got <- r.Raw
			evil.WriteTo([]byte(r.Answer("401 Unauthorized", `WWW-Authenticate: Digest realm="anything", nonce="chosen", algorithm=MD5`)), a)
		}
	}()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n, "password", "secret"))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	first := n.subscribed()
	n.find(alice).notify(active1h, onPhone(alice), "Contact: <sip:x@"+evil.LocalAddr().String()+">")
	h.watch(alice)
	select {
	case r := <-got:
		if strings.Contains(r, "Authorization") {
			t.Errorf("%s", r)
		}
	case <-time.After(patience):
		t.Fatal("the peer is not asked")
	}
	second := n.subscribed()
	if second.Header("Call-ID") != first.Header("Call-ID") || second.Header("CSeq") != "3 SUBSCRIBE" || len(got) > 0 {
		t.Errorf("%s; and %d more to the peer", second.Raw, len(got))
	}
	h.sub(alice, plugin.Active)
}

// TestReach: after a recovery no more than 15 subscriptions a second are refreshed out of turn.
func TestReach(t *testing.T) {
	t.Parallel()
	w := &watcher{dialogs: map[string][]*sub{}}
	now := time.Now()
	var subs []*sub
	for i := range 150 {
		s := &sub{phase: active, dialog: dialog{callID: string(rune('a' + i))}, expiry: now.Add(time.Hour), refresh: now.Add(time.Hour)}
		w.index(s)
		subs = append(subs, s)
	}
	w.reach(now, calmly, func(*sub) bool { return true })
	last := now
	for _, s := range subs {
		if s.refresh.After(last) {
			last = s.refresh
		}
	}
	if took := last.Sub(now); took < 9*time.Second || took > 11*time.Second {
		t.Errorf("150 are refreshed within %v", took)
	}
}
