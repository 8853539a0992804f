package sipnet

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
)

// No goroutine outlives the clients, sipgo's included.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for. It is a multiple of what it takes.
const patience = 20 * time.Second

// quick is a tempo for tests of what takes its time.
func quick() tempo {
	return tempo{silence: 300 * time.Millisecond, streamSilence: time.Second, connTimeout: time.Second, probeEvery: 100 * time.Millisecond,
		probeTime: 100 * time.Millisecond, dnsAge: time.Hour, dnsRetry: time.Millisecond, dnsTimeout: 2 * time.Second, certAge: time.Hour}
}

// clientTo returns a client to a server's address at the usual tempo.
func clientTo(t testing.TB, addr, transport string) *Client {
	return clientOf(t, Config{Server: targetOf(t, "sip:"+addr+";transport="+transport)}, normal)
}

func targetOf(t testing.TB, uri string) Target {
	t.Helper()
	target, err := ParseTarget(uri)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func clientOf(t testing.TB, cfg Config, pace tempo) *Client {
	t.Helper()
	c, err := newClient(cfg, pace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// publishTo builds a PUBLISH for somebody in a domain.
func publishTo(host string) *sip.Request {
	uri := sip.Uri{Scheme: "sip", User: "alice", Host: host}
	req := sip.NewRequest(sip.PUBLISH, uri)
	from := &sip.FromHeader{Address: uri}
	from.Params.Add("tag", sip.GenerateTagN(16))
	callID := sip.CallIDHeader(sip.GenerateTagN(24))
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: uri})
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.PUBLISH})
	req.SetBody(nil)
	return req
}

// message builds a PUBLISH whose Subject is pad bytes long.
func message(pad int) *sip.Request {
	req := publishTo("example.com")
	req.AppendHeader(&sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "alice"}})
	if pad > 0 {
		b := make([]byte, pad)
		for i := range b {
			b[i] = 'x'
		}
		req.AppendHeader(sip.NewHeader("Subject", string(b)))
	}
	req.SetBody(nil)
	return req
}

// send sends one request with a timeout.
func send(c *Client, timeout time.Duration) (*sip.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return c.Do(ctx, message(0))
}

// accepted sends a request, expects a 200, and returns who it is of: the SIP-ETag.
func accepted(t testing.TB, c *Client) string {
	t.Helper()
	res, err := send(c, patience)
	return tagOf(t, res, err)
}

func tagOf(t testing.TB, res *sip.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, res.Reason)
	}
	if h := res.GetHeader("SIP-ETag"); h != nil {
		return h.Value()
	}
	return ""
}

// accept is a script that answers 200 with a tag.
func accept(tag string) func(siptest.Request) { return func(r siptest.Request) { r.Accept(tag) } }

// begin sends n requests beside the test, to a server that holds its answers back.
func begin(t *testing.T, c *Client, srv *siptest.Server, n int) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if res, err := send(c, patience); err != nil || res.StatusCode != 200 {
				t.Errorf("a request under way: %v, %v", res, err)
			}
		})
	}
	eventually(t, "requests under way", func() bool { return len(srv.All()) >= n })
	return wg.Wait
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// finish runs f and fails if it takes longer than what is a bound even on a busy machine.
func finish(t testing.TB, within time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > within {
		t.Errorf("took %v, want at most %v", took, within)
	}
}

// missing skips a test for want of something, and says how to get it. Where everything
// must run (CI, BUSYLAMP_E2E=1) that is a failure.
func missing(t *testing.T, how string) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
		t.Fatal(how)
	}
	t.Skip(how)
}

// pathTo returns the path in use.
func pathTo(c *Client) *path {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hops[0].way
}

// under enters the path to the only hop, as somebody else's request does.
func under(t *testing.T, c *Client) (way *path, leave func()) {
	t.Helper()
	h := c.choose(nil)
	way, err := c.enter(h)
	if err != nil {
		t.Fatal(err)
	}
	return way, func() { c.leave(h, way) }
}
