package sipnet

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// refuser is a TCP port that refuses connections until it is opened. Nobody else listens
// at that address, where the port might come to use again.
func refuser(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.4:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestFailOverConnecting: servers that cannot be connected to.
func TestFailOverConnecting(t *testing.T) {
	pki := newAuthority(t, "authority")
	secure := func(name string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{pki.issue(t, name, time.Hour)}}
	}
	for name, tc := range map[string]struct {
		transport, why string
		first          func(*testing.T) (addr string, back func(*testing.T))
	}{
		"TCP refused": {"tcp", "connection refused", func(t *testing.T) (string, func(*testing.T)) {
			addr := refuser(t)
			return addr, func(t *testing.T) { siptest.New(t, "tcp", addr, accept("first")) }
		}},
		"TCP takes no SYN": {"tcp", "nothing heard from", func(t *testing.T) (string, func(*testing.T)) {
			return blackhole(t), nil
		}},
		"TLS of another name": {"tls", "not for the name presence.test", func(t *testing.T) (string, func(*testing.T)) {
			s := siptest.NewTLS(t, "127.0.0.5:0", secure("other.test"), accept("first"))
			return s.Addr(), func(t *testing.T) {
				s.Close()
				siptest.NewTLS(t, s.Addr(), secure("presence.test"), accept("first"))
			}
		}},
		"no TLS": {"tls", "does not speak TLS", func(t *testing.T) (string, func(*testing.T)) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					conn.Write([]byte("220 mail.test ESMTP\r\n"))
					conn.Close()
				}
			}()
			t.Cleanup(func() { l.Close(); <-done })
			return l.Addr().String(), nil
		}},
		// Where there is a way, there is silence.
		"no way by IPv6": {"udp", "[2001:db8::1]:5060", func(*testing.T) (string, func(*testing.T)) {
			return "[2001:db8::1]:5060", nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, back := tc.first(t)
			var second *siptest.Server
			if tc.transport == "tls" {
				second = siptest.NewTLS(t, "127.0.0.1:0", secure("presence.test"), accept("second"))
			} else {
				second = siptest.New(t, tc.transport, "127.0.0.1:0", accept("second"))
			}
			z := newZone(t, join(srv(tc.transport, addr, 10, 0), srv(tc.transport, second.Addr(), 20, 0))...)
			c := z.client(t, tc.transport, quick(), func(cfg *Config) {
				if tc.transport == "tls" {
					cfg.TLS.CAFile = pki.file
				}
			})
			finish(t, patience/4, func() {
				if tag := accepted(t, c); tag != "second" {
					t.Errorf("at %s", tag)
				}
			})
			if s := c.Status().Hops; s[0].Up || !strings.Contains(s[0].Why, tc.why) {
				t.Errorf("%+v", s)
			}
			if back != nil {
				back(t)
				eventually(t, "the first is back", func() bool { return inUse(c) == addr })
				if tag := accepted(t, c); tag != "first" {
					t.Errorf("at %s", tag)
				}
			}
		})
	}
}
