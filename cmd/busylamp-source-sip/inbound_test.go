package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/sipnet"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// lineClient is a client of a notifier's.
func lineClient(t *testing.T, n *notifier) *sipnet.Client {
	t.Helper()
	target, err := sipnet.ParseTarget("sip:" + n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c, err := sipnet.New(sipnet.Config{Server: target})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestOrder: NOTIFYs that come together are taken in their order: none is refused for its
// number, nothing is missed.
func TestOrder(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "tcp", serving)
	h, _ := start(t, to(n, "transport", "tcp", "event", "dialog"))
	h.watch(alice)
	h.sub(alice, plugin.Active)
	d := n.find(alice)
	d.notify(active1h, calls(alice, "100", "full"))
	const many = 200
	var all strings.Builder
	for i := range many {
		all.WriteString(d.notice(active1h, calls(alice, fmt.Sprint(101+i), "partial", []string{"confirmed", "terminated"}[i%2])))
	}
	d.back()(all.String())
	for range many {
		select {
		case a := <-n.answers:
			if a.StartLine() != "SIP/2.0 200 OK" {
				t.Fatalf("%s", a.StartLine())
			}
		case <-time.After(patience):
			t.Fatal("answers are missing")
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.dialogs) != 1 {
		t.Errorf("%d dialogs", len(n.dialogs))
	}
}

// TestStranger: of a NOTIFY in a dialog that is none of ours the body is not looked at; else
// what cannot be read would be seen by the answer.
func TestStranger(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	w := &watcher{dialogs: map[string][]*sub{}}
	s := &sub{dialog: dialog{callID: "one"}}
	other := &sub{dialog: dialog{callID: "one"}, fork: true}
	w.index(s)
	w.index(other)
	if w.unindex(s); !w.knows("one") || w.knows("two") {
		t.Error("a dialog is not known")
	}
	if w.unindex(other); w.knows("one") {
		t.Error("a dialog is known still")
	}
	d := n.find(alice)
	stranger := &told{n: n, who: "sip:x@y", tag: "zz", event: "no-such", callID: "none", from: "<sip:q@r>;tag=w", to: "<sip:x@y>", contact: "sip:q@r", cseq: 500}
	// Before anything else is looked at, the event included.
	if a := n.ask(from(t, "127.0.0.2", d, n), stranger.notice("active", "<presence")); a != "SIP/2.0 481 Subscription does not exist" {
		t.Errorf("%s", a)
	}
}

// TestParts: a part of a list is read once, however often it is named, and no member has more
// instances than the bound.
func TestParts(t *testing.T) {
	var root strings.Builder
	root.WriteString(`<list xmlns="urn:ietf:params:xml:ns:rlmi" version="0" fullState="true">`)
	for r := range 20 {
		fmt.Fprintf(&root, `<resource uri="sip:u%d@example.com">`, r)
		for i := range 400 {
			fmt.Fprintf(&root, `<instance id="%d" state="active" cid="p"/>`, i)
		}
		root.WriteString(`</resource>`)
	}
	root.WriteString(`</list>`)
	doc := `<presence xmlns="urn:ietf:params:xml:ns:pidf">` + strings.Repeat("<a/>", 7000) + `</presence>`
	body := "--b\r\nContent-Type: application/rlmi+xml\r\nContent-ID: <root>\r\n\r\n" + root.String() + "\r\n--b\r\nContent-Type: application/pidf+xml\r\nContent-ID: <p>\r\n\r\n" + doc + "\r\n--b--\r\n"
	mime := strings.TrimPrefix(listType, "Content-Type: ")
	d, err := readDocument(mime, []byte(body))
	if err != nil || len(d.parts) != 1 || len(d.list.Resources) != 20 || len(d.list.Resources[19].Instances) != maxInstances {
		t.Fatalf("%d parts, %d resources, %v", len(d.parts), len(d.list.Resources), err)
	}
	one := testing.AllocsPerRun(1, func() { readDocument(presence.mime, []byte(doc)) })
	all := testing.AllocsPerRun(1, func() { readDocument(mime, []byte(body)) })
	rest := testing.AllocsPerRun(1, func() { readDocument(mime, []byte(strings.Replace(body, doc, "", 1))) })
	if all > rest+3*one {
		t.Errorf("%.0f allocations, of which %.0f are for one reading", all, one)
	}
}

// TestLargeList: a list of 1,000 members over TCP, in one NOTIFY.
func TestLargeList(t *testing.T) {
	t.Parallel()
	const size = 1000
	var members [][3]string
	for i := range size {
		u := fmt.Sprintf("sip:u%d@example.com", i)
		members = append(members, [3]string{u, "active", onPhone(u)})
	}
	body := rlmiBody(0, true, members...)
	n := newNotifier(t, "tcp", func(d *told, r siptest.Request) {
		d.ok(r)
		if d.who == team {
			d.send(d.notice(active1h, body, listType))
		}
	})
	h, _ := start(t, to(n, "lists", []string{team}, "transport", "tcp"))
	h.watch("sip:u1@example.com", "sip:u999@example.com")
	h.claim("sip:u999@example.com", plugin.Busy)
	if r := n.subscribed(); len(body) < 1<<18 || !strings.Contains(r.StartLine(), team) || len(n.requests) > 0 {
		t.Errorf("%d bytes, %s, and %d more", len(body), r.StartLine(), len(n.requests))
	}
}
