package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// TestConnectorWords: any answer of the server says that it is there; only a SUBSCRIBE says that
// our account is refused, see TestDummy and TestDenied.
func TestConnectorWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status string
		state  plugin.ConnectorState
		reason string
	}{
		{"200 OK", plugin.Up, ""}, {"405 Method Not Allowed", plugin.Up, ""}, {"480 Temporarily Unavailable", plugin.Up, ""},
		{"403 Forbidden", plugin.Up, ""}, {"401 Unauthorized", plugin.Up, ""},
		{"404 Not Found", plugin.CredentialsNotFound, "sip:busylamp@example.com"},
		{"503 Service Unavailable", plugin.ConnectionError, "503 Service Unavailable"},
	} {
		n := newNotifier(t, "udp", serving)
		n.mu.Lock()
		n.options = c.status
		n.mu.Unlock()
		h, stop := start(t, to(n))
		if got := h.connector(c.state); !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%s: %+v", c.status, got)
		}
		stop()
	}
}

// TestUnreachable: who does not accept us is a failure of the connector; when somebody does, it
// is up again, by itself.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	h, _ := start(t, map[string]any{"server": addr, "transport": "tcp", "uri": "busylamp@example.com"})
	if c := h.connector(plugin.ConnectionError); !strings.Contains(c.Reason, addr) {
		t.Errorf("%+v", c)
	}
	h.watch(alice)
	h.sub(alice, plugin.Failed)
	n := &notifier{t: t, onSub: serving, dialogs: map[string]*told{}, answers: make(chan siptest.Request, 100), requests: make(chan siptest.Request, 100), ready: make(chan struct{})}
	n.Server = siptest.New(t, "tcp", addr, n.take)
	close(n.ready)
	h.connector(plugin.Up)
	h.watch(alice)
	h.claim(alice, plugin.Available)
}

// TestLostConnection: when the connection that notifiers reach us by is lost, subscriptions name
// a new one to them.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	hang := make(chan func(), 10)
	n := newNotifier(t, "tcp", func(d *told, r siptest.Request) {
		if d.requests == 1 {
			hang <- r.HangUp
		}
		serving(d, r)
	})
	h, _ := start(t, to(n, "transport", "tcp"))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	first := n.subscribed()
	(<-hang)()
	second := n.subscribed()
	if first.Header("Call-ID") != second.Header("Call-ID") || first.Header("Contact") == second.Header("Contact") {
		t.Errorf("%s, then %s", first.Raw, second.Raw)
	}
	if a := n.find(alice).notify(active1h, onPhone(alice)); a != "SIP/2.0 200 OK" {
		t.Errorf("%s", a)
	}
	h.claim(alice, plugin.Busy)
}

// TestDigest: a challenge is answered by the account that the host has chosen, with the password
// of its file; what a wrong one is refused stands for the whole account, which is not asked again.
func TestDigest(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		auth := r.Header("Authorization")
		switch {
		case strings.Contains(auth, `username="good"`):
			serving(d, r)
		default:
			d.answer(r, "401 Unauthorized", `WWW-Authenticate: Digest realm="example.com", nonce="n`+d.tag+`", algorithm=MD5`)
		}
	})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, _ := start(t, map[string]any{"accounts": []any{
		map[string]any{"name": "app", "server": n.Addr(), "uri": "sip:bad@example.com", "password": "wrong"},
		map[string]any{"name": "user", "server": n.Addr(), "uri": "sip:me@example.com", "username": "good", "password_file": file},
	}})
	h.watch(alice)
	if s := h.sub(alice, plugin.AccessDenied); !strings.Contains(s.Reason, "check username and password") {
		t.Errorf("%+v", s)
	}
	n.mu.Lock()
	asked := len(n.dialogs)
	n.mu.Unlock()
	h.watch(bob)
	if s := h.sub(bob, plugin.AccessDenied); s.Reason == "" {
		t.Errorf("%+v", s)
	}
	n.mu.Lock()
	if len(n.dialogs) != asked {
		t.Error("a refused account is tried again for each presentity")
	}
	n.mu.Unlock()
	h.ask(plugin.Request{Watch: []plugin.Target{{Presentity: alice, Endpoint: 1}}})
	h.sub(alice, plugin.Active)
	h.claim(alice, plugin.Available)
	h.connector(plugin.Up)
}

// TestSilentToOptions: a server that has no answer to OPTIONS is asked by SUBSCRIBE, and is up.
func TestSilentToOptions(t *testing.T) {
	t.Parallel()
	f := newForgetful(t, "3600")
	f.silent.Store(true)
	h, _ := start(t, map[string]any{"server": f.conn.LocalAddr().String(), "uri": "sip:busylamp@example.com", "timeout": "1s"})
	h.connector(plugin.Up)
}
