package sippublish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// TestPooled: drafts, waiters and answers are used again and again, by many at a time, while
// some are challenged, some given up, some answered twice or late. Each outcome is that of its
// own request: the server's entity-tag names whom it is of.
func TestPooled(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			var late sync.WaitGroup
			t.Cleanup(late.Wait) // when the server has ended
			srv := siptest.New(t, transport, "127.0.0.1:0", func(c siptest.Request) {
				user, _, _ := strings.Cut(strings.TrimPrefix(c.StartLine(), "PUBLISH sip:"), "@")
				switch kind, _, _ := strings.Cut(user, "-"); {
				case kind == "lost":
				case kind == "asked" && c.Header("Authorization") == "":
					c.Reply(c.Answer("401 Unauthorized", `WWW-Authenticate: Digest realm="r", nonce="n`+user+`", algorithm=MD5, qop="auth"`))
				case kind == "late":
					late.Go(func() {
						time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
						c.Accept(user)
					})
				case kind == "twice":
					c.Accept(user)
					c.Accept("another")
				case kind == "long":
					c.Reply(c.Answer("202 Accepted", "SIP-ETag: "+user, "SIP-ETag: another")) // for the parser
				default:
					c.Accept(user)
				}
			})
			p := newPublisher(t, srv.Addr(), transport, func(c *Config) { c.Username, c.Password = "busylamp", "secret" })
			var running sync.WaitGroup
			for worker := range 16 {
				running.Go(func() {
					for n := range 100 {
						kind := []string{"plain", "lost", "asked", "late", "twice", "long"}[rand.IntN(6)]
						user := fmt.Sprintf("%s-%d-%d", kind, worker, n)
						r := initial
						r.Presentity = busylamp.Presentity("sip:" + user + "@example.com")
						ctx, cancel := context.WithCancel(t.Context())
						if kind == "lost" || kind == "late" && n%2 == 0 {
							time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
						}
						o := p.Publish(ctx, r)
						cancel()
						switch {
						case o.Result == busylamp.Accepted && o.Tag == user && kind != "lost":
						case o.Result == busylamp.Unavailable && (kind == "lost" || kind == "late"):
						default:
							t.Errorf("%s: %+v", user, o)
						}
					}
				})
			}
			running.Wait()
		})
	}
}
