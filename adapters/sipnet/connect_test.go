package sipnet

import (
	"net"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestConnect: the connection is there before the first request, which then uses it; where
// it cannot be made, the reason is told and shown.
func TestConnect(t *testing.T) {
	t.Parallel()
	srv := siptest.New(t, "tcp", "127.0.0.1:0", func(c siptest.Request) { c.Reply(c.Answer("200 OK")) })
	for addr, want := range map[string]string{srv.Addr(): "", closedPort(t): "connection refused"} {
		target, err := ParseTarget("sip:" + addr + ";transport=tcp")
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{Server: target})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.Connect(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
		if up := c.Status().Hops[0].Up; up != (want == "") {
			t.Errorf("%s: up %v", addr, up)
		}
		if want != "" {
			continue
		}
		if res, err := c.Send(t.Context(), c.options()); err != nil || res.StatusCode != 200 {
			t.Errorf("%v, %v", res, err)
		}
		if n := srv.Connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
