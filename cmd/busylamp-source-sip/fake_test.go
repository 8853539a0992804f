package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// TestMain: the test's binary is the source itself when the host starts it as one; and no
// goroutine outlives the tests.
func TestMain(m *testing.M) {
	if os.Getenv(plugin.Handshake.MagicCookieKey) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for. It is a multiple of what it takes.
const patience = 20 * time.Second

// notifier is a scripted notifier: what it says to a SUBSCRIBE is the test's.
type notifier struct {
	*siptest.Server
	t        testing.TB
	onSub    func(*told, siptest.Request) // for a SUBSCRIBE; OPTIONS are answered by 200
	answers  chan siptest.Request         // to our NOTIFYs
	requests chan siptest.Request         // SUBSCRIBEs that have been taken
	mu       sync.Mutex
	dialogs  map[string]*told // by Call-ID
	options  string           // the status that OPTIONS has; "" for 200 OK
	ready    chan struct{}    // closed when all of the above can be used
}

// told is a subscription as the notifier has it.
type told struct {
	n        *notifier
	who      string // the presentity
	tag      string // ours
	event    string
	callID   string
	from, to string // of the first SUBSCRIBE
	contact  string
	send     func(string)
	cseq     int
	requests int // SUBSCRIBEs in the dialog
	expires  string
}

func newNotifier(t testing.TB, transport string, onSub func(*told, siptest.Request)) *notifier {
	n := &notifier{t: t, onSub: onSub, dialogs: map[string]*told{}, answers: make(chan siptest.Request, 10000), requests: make(chan siptest.Request, 10000), ready: make(chan struct{})}
	n.Server = siptest.New(t, transport, "127.0.0.1:0", n.take)
	close(n.ready)
	return n
}

func (n *notifier) take(r siptest.Request) {
	<-n.ready
	switch {
	case strings.HasPrefix(r.Raw, "SIP/2.0 "):
		n.answers <- r
	case strings.HasPrefix(r.Raw, "OPTIONS "):
		n.mu.Lock()
		status := n.options
		n.mu.Unlock()
		if status == "" {
			status = "200 OK"
		}
		r.Reply(r.Answer(status))
	case strings.HasPrefix(r.Raw, "SUBSCRIBE "):
		d := n.dialog(r)
		n.onSub(d, r)
		select {
		case n.requests <- r:
		default:
		}
	}
}

func (n *notifier) dialog(r siptest.Request) *told {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.dialogs[r.Header("Call-ID")]
	if d == nil {
		d = &told{n: n, tag: fmt.Sprintf("n%d", len(n.dialogs)+1), event: r.Header("Event"), callID: r.Header("Call-ID"),
			from: r.Header("From"), to: r.Header("To")}
		d.who = strings.TrimSuffix(strings.TrimPrefix(d.to, "<"), ">")
		n.dialogs[d.callID] = d
	}
	d.contact = strings.Trim(r.Header("Contact"), "<>")
	d.send = r.Reply
	d.requests++
	d.expires = r.Header("Expires")
	return d
}

// find returns the newest dialog about somebody.
func (n *notifier) find(who string) *told {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var best *told
	for _, d := range n.dialogs {
		if d.who == who && (best == nil || len(d.tag) > len(best.tag) || len(d.tag) == len(best.tag) && d.tag > best.tag) {
			best = d
		}
	}
	if best == nil {
		n.t.Fatalf("nobody has subscribed to %s", who)
	}
	return best
}

// answer answers a SUBSCRIBE.
func (d *told) answer(r siptest.Request, status string, headers ...string) {
	to := r.Header("To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=" + d.tag
	}
	lines := append([]string{"SIP/2.0 " + status, "Via: " + r.Header("Via"), "From: " + r.Header("From"),
		"To: " + to, "Call-ID: " + r.Header("Call-ID"), "CSeq: " + r.Header("CSeq")}, headers...)
	r.Reply(strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n"))
}

// ok answers 200 with what was asked for.
func (d *told) ok(r siptest.Request) {
	d.answer(r, "200 OK", "Expires: "+r.Header("Expires"), "Contact: <sip:notifier@"+d.n.Addr()+">")
}

// notice builds a NOTIFY; headers replace those of the same name, and one without a value
// takes it away.
func (d *told) notice(state, body string, headers ...string) string {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	d.cseq++
	lines := []string{"NOTIFY " + d.contact + " SIP/2.0", fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bKn%s%d", d.n.Addr(), d.tag, d.cseq),
		"From: " + d.to + ";tag=" + d.tag, "To: " + d.from, "Call-ID: " + d.callID, fmt.Sprintf("CSeq: %d NOTIFY", d.cseq),
		"Max-Forwards: 70", "Contact: <sip:notifier@" + d.n.Addr() + ">", "Event: " + d.event, "Subscription-State: " + state}
	if body != "" {
		mime := pidf.ContentType
		if d.event == "dialog" {
			mime = dialogs.mime
		}
		lines = append(lines, "Content-Type: "+mime)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		replaced := false
		for i := range lines {
			if strings.HasPrefix(lines[i], name+": ") {
				lines[i], replaced = h, true
				if value == "" {
					lines = append(lines[:i], lines[i+1:]...)
				}
				break
			}
		}
		if !replaced {
			lines = append(lines, h)
		}
	}
	return strings.Join(append(lines, fmt.Sprintf("Content-Length: %d", len(body)), "", body), "\r\n")
}

// notify sends a NOTIFY and returns what it is answered.
func (d *told) notify(state, body string, headers ...string) string {
	d.n.t.Helper()
	request := d.notice(state, body, headers...)
	return d.n.ask(d.back(), request)
}

// back is the way to the one who has subscribed.
func (d *told) back() func(string) {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	return d.send
}

// fork is another fork of the same SUBSCRIBE.
func (d *told) fork(tag string) *told {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	other := *d
	other.tag, other.cseq = tag, 100
	return &other
}

// ask sends a request and returns the start line of its answer, known by Via and CSeq.
func (n *notifier) ask(send func(string), request string) string {
	n.t.Helper()
	return n.answerTo(send, request).StartLine()
}

func (n *notifier) answerTo(send func(string), request string) siptest.Request {
	n.t.Helper()
	send(request)
	late := time.After(patience)
	for {
		select {
		case a := <-n.answers:
			if a.Header("CSeq") == (siptest.Request{Raw: request}).Header("CSeq") {
				return a
			}
		case <-late:
			n.t.Fatalf("no answer to\n%s", request)
		}
	}
}

// subscribed waits for the next SUBSCRIBE.
func (n *notifier) subscribed() siptest.Request {
	n.t.Helper()
	select {
	case r := <-n.requests:
		return r
	case <-time.After(patience):
		n.t.Fatal("no SUBSCRIBE")
		return siptest.Request{}
	}
}

// active is what Subscription-State says of a subscription that is well.
const active1h = "active;expires=3600"

// open and onPhone are presence documents.
func open(who string) string {
	return `<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="` + who + `"><tuple id="t1"><status><basic>open</basic></status></tuple></presence>`
}

func onPhone(who string) string {
	return string(pidf.RPID(pidf.Document{Entity: who, TupleID: "other", Activity: pidf.OnThePhone}))
}

// calls is a dialog-info document.
func calls(who, version, state string, dialogStates ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="%s" state="%s" entity="%s">`, version, state, who)
	for i, s := range dialogStates {
		fmt.Fprintf(&b, `<dialog id="d%d"><state>%s</state></dialog>`, i, s)
	}
	return b.String() + `</dialog-info>`
}

// serving accepts every SUBSCRIBE and says that everybody is available.
func serving(d *told, r siptest.Request) {
	d.ok(r)
	if r.Header("Expires") == "0" {
		d.send(d.notice("terminated;reason=timeout", ""))
		return
	}
	body := open(d.who)
	if d.event == "dialog" {
		body = calls(d.who, fmt.Sprint(d.requests), "full")
	}
	d.send(d.notice("active;expires="+r.Header("Expires"), body))
}

// from returns what sends to a dialog's Contact from an address of its own. The answer goes to
// the notifier's answers.
func from(t testing.TB, addr string, d *told, n *notifier) func(string) {
	t.Helper()
	d.n.mu.Lock()
	host := strings.TrimPrefix(d.contact, "sip:busylamp@")
	d.n.mu.Unlock()
	host, _, _ = strings.Cut(host, ";")
	conn, err := net.ListenPacket("udp", addr+":0")
	if err != nil {
		t.Fatalf("%s cannot be bound (%v): add it by ip addr add 127.0.0.2/8 dev lo", addr, err)
	}
	t.Cleanup(func() { conn.Close() })
	peer, err := net.ResolveUDPAddr("udp", host)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 65536)
		for {
			size, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			n.answers <- siptest.Request{Raw: string(b[:size])}
		}
	}()
	return func(s string) { conn.WriteTo([]byte(s), peer) }
}
