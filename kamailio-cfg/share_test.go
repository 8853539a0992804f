package kamailiocfg

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// evapiHere gives an operator's own evapi the port that the test chose.
const evapiHere = "\nmodparam(\"evapi\", \"bind_addr\", BUSYLAMP_EVAPI)\n"

// hisEvapi is a script with an evapi of its own: it greets every client, echoes what they
// say, and relays a frame of its own for every call.
func hisEvapi() script {
	return script{
		modules: everything, params: evapiHere, route: answering,
		defines: []string{"BUSYLAMP_SKIP_EVAPI_NEW", "BUSYLAMP_SKIP_EVAPI_MESSAGE", "BUSYLAMP_SKIP_DIALOG_START"},
		events: `event_route[evapi:connection-new] {
	route(BUSYLAMP_EVAPI_NEW);
	evapi_set_tag("his");
}
event_route[evapi:message-received] {
	route(BUSYLAMP_EVAPI_MESSAGE);
	if ($evapi(msg) == "mine") evapi_set_tag("mine");
	if ($evapi(msg) == "hello") evapi_relay("{\"event\":\"hello\"}");
}
event_route[dialog:start] {
	route(BUSYLAMP_START);
	evapi_relay("{\"event\":\"started\"}");
}
`}
}

// answering sends every call to sip:bob on the port that the test gives in the user part.
const answering = `if ($tt != $null) {
		loose_route();
		t_relay();
		exit;
	}
	record_route();
	dlg_manage();
	route(BUSYLAMP);
	t_on_reply("BUSYLAMP_REPLY");
	$du = "sip:127.0.0.1:" + $rU;`

// TestSharedEvapi: an operator's listener goes on as it was, his frames reach everybody
// (that is what evapi_relay does), ours only whom they are for.
func TestSharedEvapi(t *testing.T) {
	p := run(t, hisEvapi().write(t))
	ours := p.listen(t)
	other, mine := p.connect(t), p.connect(t)
	mine.send(t, "mine")
	mine.send(t, "busylamp/1 nonsense")
	// A connection may wait in the kernel while evapi sends to those that it has accepted:
	// only who has been answered is sure to hear of the call.
	for _, c := range []*client{other, mine} {
		c.send(t, "hello")
		c.until(t, "hello", func() bool { return slices.Contains(c.frames, `{"event":"hello"}`) })
	}
	p.anyCall(t)
	lines := ours.settled(t, 0)
	if len(lines) != 2 || lines[0].kind != "c" || lines[1].kind != "x" {
		t.Errorf("lines %v, want a call and its end", lines)
	}
	for name, c := range map[string]*client{"ours": ours, "another": other, "a tagged one": mine} {
		c.until(t, "his frame", func() bool { return slices.Contains(c.frames, `{"event":"started"}`) })
		c.mu.Lock()
		for _, f := range c.frames {
			if name != "ours" && strings.HasPrefix(f, "busylamp/") {
				t.Errorf("%s got %q", name, f)
			}
		}
		c.mu.Unlock()
	}
}

// TestASlotIsForgotten: whoever connects after the sidecar is not taken for it, though
// evapi keeps a slot's tag.
func TestASlotIsForgotten(t *testing.T) {
	p := sample(t)
	first := p.listen(t)
	first.conn.Close()
	time.Sleep(100 * time.Millisecond)
	next := p.connect(t)
	p.answerer(t, "bob")
	oddCall{uri: "sip:bob@example.com", from: "<sip:alice@example.com>;tag=1", to: "<sip:bob@example.com>", callID: "x"}.run(t, p)
	time.Sleep(300 * time.Millisecond)
	next.mu.Lock()
	defer next.mu.Unlock()
	if len(next.frames) != 0 {
		t.Errorf("a client that never registered got %q", next.frames)
	}
}

// TestTwoSidecars: each gets every line.
func TestTwoSidecars(t *testing.T) {
	p := sample(t)
	one, two := p.listen(t), p.listen(t)
	p.device(t, "bob", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
	one.expect(t, 0, "c alice bob", "x")
	two.expect(t, 0, "c alice bob", "x")
}

// TestForgottenModInit: an operator who skips ours and does not call it still has an
// epoch, with the first heartbeat.
func TestForgottenModInit(t *testing.T) {
	p := run(t, script{modules: needed, route: answering,
		defines: []string{"BUSYLAMP_SKIP_HTABLE_MOD_INIT"}}.write(t))
	c := p.listen(t)
	c.until(t, "an epoch", func() bool { return strings.Contains(c.epoch, ".") })
	p.anyCall(t)
	if lines := c.settled(t, 0); len(lines) != 2 {
		t.Errorf("lines %v, want a call and its end", lines)
	}
}

// anyCall makes a call through a script with the answering route.
func (p *proxy) anyCall(t *testing.T) oddCall {
	t.Helper()
	port := freePort(t)
	answerOn(t, port)
	o := oddCall{uri: "sip:" + strconv.Itoa(port) + "@example.com", from: "<sip:alice@example.com>;tag=1",
		to: "<sip:bob@example.com>", callID: unique()}
	if status := o.run(t, p); status != 200 {
		t.Fatalf("status %d", status)
	}
	return o
}
