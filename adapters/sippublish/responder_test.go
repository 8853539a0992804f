package sippublish

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// No goroutine outlives the publishers, sipgo's included.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for. It is a multiple of what it takes.
const patience = 20 * time.Second

const alice busylamp.Presentity = "sip:alice@example.com"

var (
	initial = busylamp.Request{Kind: busylamp.Initial, Presentity: alice, State: busylamp.OnThePhone, Expires: 600 * time.Second}
	refresh = busylamp.Request{Kind: busylamp.Refresh, Presentity: alice, Tag: "t1", Expires: 600 * time.Second}
	modify  = busylamp.Request{Kind: busylamp.Modify, Presentity: alice, State: busylamp.Ringing, Tag: "t2", Expires: 600 * time.Second}
	remove  = busylamp.Request{Kind: busylamp.Remove, Presentity: alice, Tag: "t3"}
)

// newPublisher returns a publisher to a server's address.
func newPublisher(t testing.TB, addr, transport string, change ...func(*Config)) *Publisher {
	t.Helper()
	target, err := sipnet.ParseTarget("sip:" + addr + ";transport=" + transport)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "test", Server: target, Profile: RPID, UserAgent: "busylamp/test", Timeout: patience}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func timeout(d time.Duration) func(*Config) { return func(c *Config) { c.Timeout = d } }

// accepted publishes and expects success.
func accepted(t testing.TB, p *Publisher, r busylamp.Request) busylamp.Outcome {
	t.Helper()
	o := p.Publish(context.Background(), r)
	if o.Result != busylamp.Accepted {
		t.Fatalf("%v: %+v", r.Kind, o)
	}
	return o
}
