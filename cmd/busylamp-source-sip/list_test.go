package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

const team = "sip:team@example.com"

// rlmiBody is what a list server sends: members are "user:state[;reason]:document".
func rlmiBody(version int, full bool, members ...[3]string) string {
	var root, parts strings.Builder
	fmt.Fprintf(&root, `<list xmlns="urn:ietf:params:xml:ns:rlmi" uri="%s" version="%d" fullState="%v">`, team, version, full)
	for i, m := range members {
		state, reason, _ := strings.Cut(m[1], ";")
		if reason != "" {
			reason = ` reason="` + reason + `"`
		}
		fmt.Fprintf(&root, `<resource uri="%s">`, m[0])
		if state != "" {
			fmt.Fprintf(&root, `<instance id="i" state="%s"%s cid="p%d"/>`, state, reason, i)
		}
		root.WriteString(`</resource>`)
		if m[2] != "" {
			mime := presence.mime
			if strings.Contains(m[2], "dialog-info") {
				mime = dialogs.mime
			}
			fmt.Fprintf(&parts, "--b\r\nContent-Type: %s\r\nContent-ID: <p%d>\r\n\r\n%s\r\n", mime, i, m[2])
		}
	}
	root.WriteString(`</list>`)
	return "--b\r\nContent-Type: application/rlmi+xml\r\nContent-ID: <root>\r\n\r\n" + root.String() + "\r\n" + parts.String() + "--b--\r\n"
}

const listType = `Content-Type: multipart/related;type="application/rlmi+xml";start="<root>";boundary=b`

const bob, carol = "sip:bob@example.com", "sip:carol@example.com"

// TestList: the members of a list are served by its one subscription; who is no member has his
// own; and when the list ends, the host asks for each.
func TestList(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if d.who != team {
			serving(d, r)
			return
		}
		d.ok(r)
		if r.Header("Expires") == "0" {
			return
		}
		d.send(d.notice(active1h, rlmiBody(0, true, [3]string{alice, "active", open(alice)}, [3]string{"sip:Bob@EXAMPLE.com:5060;x=y", "", ""}), listType))
	})
	h, _ := start(t, to(n, "lists", []string{team}))
	h.watch(alice, carol) // before anybody knows who is a member
	if s := h.sub(alice, plugin.Active); !strings.Contains(s.Reason, team) {
		t.Errorf("%+v", s)
	}
	h.claim(alice, plugin.Available)
	if s := h.sub(carol, plugin.Terminated); s.Reason != "no member of a list" {
		t.Errorf("%+v", s)
	}
	h.watch(carol)
	h.sub(carol, plugin.Active)
	h.watch(bob)
	h.sub(bob, plugin.Active) // the list names him in another way than we do: Bob is not bob
	if r := n.subscribed(); r.StartLine() != "SUBSCRIBE "+team+" SIP/2.0" || r.Header("Supported") != "eventlist" ||
		r.Header("Accept") != "application/pidf+xml, application/rlmi+xml, multipart/related" {
		t.Errorf("%s", r.Raw)
	}
	if r := n.subscribed(); !strings.Contains(r.StartLine(), "carol") {
		t.Errorf("%s", r.StartLine())
	}
	if r := n.subscribed(); !strings.Contains(r.StartLine(), "bob") {
		t.Errorf("%s", r.StartLine())
	}
	d := n.find(team)
	d.notify(active1h, rlmiBody(1, false, [3]string{alice, "active", onPhone(alice)}), listType)
	h.claim(alice, plugin.Busy)

	// Carol becomes a member: her own subscription ends.
	d.notify(active1h, rlmiBody(2, true, [3]string{alice, "active", onPhone(alice)}, [3]string{carol, "active", onPhone(carol)}), listType)
	h.claim(carol, plugin.Busy)
	if r := n.subscribed(); !strings.HasPrefix(r.Header("To"), "<"+carol) || r.Header("Expires") != "0" {
		t.Errorf("%s", r.Raw)
	}
	// And alice is none any more.
	d.notify(active1h, rlmiBody(3, true, [3]string{carol, "terminated;noresource", ""}), listType)
	h.sub(carol, plugin.NotFound)
	h.sub(alice, plugin.Terminated)
	h.claim(carol, plugin.Unknown)
	h.watch(alice)
	h.sub(alice, plugin.Active)
	h.claim(alice, plugin.Available)
}

// TestListEnds: while a list is refused, its members are subscribed to one by one.
func TestListEnds(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		switch {
		case d.who == team && d.tag != "n1":
			d.answer(r, "404 Not Found")
		case d.who == team:
			d.ok(r)
			d.send(d.notice(active1h, rlmiBody(0, true, [3]string{alice, "active", onPhone(alice)}), listType))
		default:
			serving(d, r)
		}
	})
	h, _ := start(t, to(n, "lists", []string{team}))
	h.watch(alice)
	h.claim(alice, plugin.Busy)
	n.find(team).notify("terminated;reason=noresource", "")
	if s := h.sub(alice, plugin.Terminated); !strings.Contains(s.Reason, "has ended") {
		t.Errorf("%+v", s)
	}
	h.watch(alice)
	h.claim(alice, plugin.Available)
	h.sub(alice, plugin.Active)
}

// TestListOfDialogs: lists are for dialogs, too, each member with a table of his own; a gap in
// what the list says has it subscribed to anew.
func TestListOfDialogs(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		d.ok(r)
		d.send(d.notice(active1h, rlmiBody(d.requests, true, [3]string{alice, "active", calls(alice, "0", "full")}, [3]string{bob, "active", calls(bob, "0", "full", "confirmed")}), listType))
	})
	h, _ := start(t, to(n, "lists", []string{team}, "event", "dialog"))
	h.watch(alice, bob)
	h.claim(alice, plugin.Available)
	if c := h.claim(bob, plugin.Busy); !c.Telephony {
		t.Errorf("%+v", c)
	}
	d := n.find(team)
	d.notify(active1h, rlmiBody(2, false, [3]string{alice, "active", calls(alice, "1", "partial", "confirmed")}, [3]string{bob, "active", calls(bob, "1", "partial", "terminated")}), listType)
	h.claim(alice, plugin.Busy)
	h.claim(bob, plugin.Available)
	if a := d.notify(active1h, rlmiBody(4, false, [3]string{alice, "active", calls(alice, "2", "partial", "terminated")}), listType); a != "SIP/2.0 200 OK" {
		t.Errorf("%s", a)
	}
	again := n.find(team)
	for again.callID == d.callID {
		n.subscribed()
		again = n.find(team)
	}
	h.claim(alice, plugin.Available)
	h.claim(bob, plugin.Busy)
}
