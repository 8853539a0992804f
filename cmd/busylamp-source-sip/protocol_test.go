package main

import (
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/sipnet/siptest"
	"github.com/busylamp/busylamp/plugin"
)

// TestNotifyAnswers: what is no good NOTIFY of ours is answered as the RFCs have it, and
// changes nothing. The last one shows that the subscription still lives.
func TestNotifyAnswers(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n, "expires", "3600s"))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	d := n.find(alice)
	for _, c := range []struct {
		what, body string
		headers    []string
		want       string
	}{
		{"another Call-ID", onPhone(alice), []string{"Call-ID: other"}, "481 Subscription does not exist"},
		{"another To tag", onPhone(alice), []string{"To: <sip:busylamp@example.com>;tag=other"}, "481 Subscription does not exist"},
		{"no To tag", onPhone(alice), []string{"To: <sip:busylamp@example.com>"}, "481 Subscription does not exist"},
		{"another From tag", onPhone(alice), []string{"From: " + d.to + ";tag=other"}, "481 Subscription does not exist"},
		{"no From tag", onPhone(alice), []string{"From: " + d.to}, "481 Subscription does not exist"},
		{"an event of a stranger's", onPhone(alice), []string{"Event: message-summary"}, "489 Bad Event"},
		{"no event", onPhone(alice), []string{"Event: "}, "489 Bad Event"},
		{"the other package", onPhone(alice), []string{"Event: dialog"}, "489 Bad Event"},
		{"an id", onPhone(alice), []string{"Event: presence;id=7"}, "481 Subscription does not exist"},
		{"no state", onPhone(alice), []string{"Subscription-State: "}, "400 Subscription-State is missing or malformed"},
		{"another type", onPhone(alice), []string{"Content-Type: text/plain"}, "415 Unsupported Media Type"},
		{"no XML", "<presence", nil, "400 The body cannot be read"},
		{"an older one", onPhone(alice), []string{"CSeq: 1 NOTIFY"}, "500 CSeq is lower than that of an earlier request"},
		{"a method that we do not have", "", nil, "405 Method Not Allowed"},
	} {
		req := d.notice(active1h, c.body, c.headers...)
		if c.what == "a method that we do not have" {
			req = strings.ReplaceAll(req, "NOTIFY", "MESSAGE")
		}
		a := n.answerTo(d.back(), req)
		if a.StartLine() != "SIP/2.0 "+c.want {
			t.Errorf("%s: %s", c.what, a.StartLine())
		}
		if c.want[:3] == "415" && a.Header("Accept") != "application/pidf+xml" || c.want[:3] == "489" && a.Header("Allow-Events") != "presence, dialog" {
			t.Errorf("%s:\n%s", c.what, a.Raw)
		}
	}
	h.quiet()
	twice := d.notice(active1h, onPhone(alice), "Event: ", "o: presence", "Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKx")
	for range 2 { // it comes again when its answer was lost
		if a := n.ask(d.back(), twice); a != "SIP/2.0 200 OK" {
			t.Errorf("%s", a)
		}
	}
	h.claim(alice, plugin.Busy)
	h.quiet()
	if a := n.ask(d.back(), strings.ReplaceAll(d.notice("x", ""), "NOTIFY", "OPTIONS")); a != "SIP/2.0 200 OK" {
		t.Errorf("%s", a)
	}
}

// TestRoutes: requests within a dialog go by its route set, reversed as the 2xx has it, and to
// the Contact that the notifier named last.
func TestRoutes(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		d.answer(r, "200 OK", "Expires: 3600", "Contact: <sip:first@192.0.2.9;transport=udp>",
			"Record-Route: <sip:far.example.com;lr>, <sip:"+d.n.Addr()+";lr;x=y>")
		d.send(d.notice(active1h, open(d.who)))
	})
	h, _ := start(t, to(n))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	n.subscribed()
	n.find(alice).notify(active1h, "", "Contact: <sip:second@192.0.2.10>")
	h.watch(alice)
	r := n.subscribed()
	var routes []string
	for _, line := range r.Headers() {
		if strings.HasPrefix(line, "Route: ") {
			routes = append(routes, line[7:])
		}
	}
	if got, want := strings.Join(routes, " "), "<sip:"+n.Addr()+";lr;x=y> <sip:far.example.com;lr>"; got != want {
		t.Errorf("routes %s, want %s", got, want)
	}
	if r.StartLine() != "SUBSCRIBE sip:second@192.0.2.10 SIP/2.0" && r.StartLine() != "SUBSCRIBE sip:first@192.0.2.9;transport=udp SIP/2.0" {
		t.Errorf("%s", r.StartLine()) // the first where the 2xx came after the second NOTIFY
	}
}

// TestElsewhere: without a route set, requests within a dialog go to the notifier's Contact,
// and by the server where there is nobody.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	elsewhere := newNotifier(t, "udp", func(d *told, r siptest.Request) { d.ok(r) })
	contact := "Contact: <sip:n@" + elsewhere.Addr() + ">"
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		d.answer(r, "200 OK", "Expires: 3600", contact)
		d.send(d.notice(active1h, open(d.who), contact))
	})
	h, _ := start(t, to(n, "timeout", "1s"))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	first := n.subscribed()
	h.watch(alice)
	second := elsewhere.subscribed()
	if second.Header("Call-ID") != first.Header("Call-ID") || !strings.Contains(second.Header("To"), ";tag=n1") || !strings.HasPrefix(second.Header("CSeq"), "2 ") {
		t.Errorf("%s", second.Raw)
	}
	n.find(alice).notify(active1h, open(alice), contact)
	elsewhere.Close()
	h.watch(alice)
	if third := n.subscribed(); third.Header("Call-ID") != first.Header("Call-ID") || !strings.Contains(third.StartLine(), "@"+elsewhere.Addr()) {
		t.Errorf("%s", third.Raw)
	}
}

// TestOtherAddress: the notifier may be another host than the one that was subscribed at.
func TestOtherAddress(t *testing.T) {
	t.Parallel()
	other := newNotifier(t, "udp", nil)
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) { d.ok(r) })
	h, _ := start(t, to(n))
	h.watch(alice)
	n.subscribed()
	d := n.find(alice)
	if a := other.ask(from(t, "127.0.0.3", d, other), d.notice(active1h, onPhone(alice))); a != "SIP/2.0 200 OK" {
		t.Errorf("%s", a)
	}
	h.claim(alice, plugin.Busy)
}

// TestDialogs: calls on phones of another system become claims of a phone; what was missed is
// asked for in full, by a new subscription, at once.
func TestDialogs(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n, "event", "dialog"))
	h.watch(alice)
	if c := h.claim(alice, plugin.Available); !c.Telephony {
		t.Errorf("%+v", c)
	}
	if r := n.subscribed(); r.Header("Event") != "dialog" || r.Header("Accept") != "application/dialog-info+xml" {
		t.Errorf("%s", r.Raw)
	}
	d := n.find(alice)
	d.notify(active1h, calls(alice, "2", "partial", "early"))
	if c := h.claim(alice, plugin.Busy); c.Activity != plugin.Ringing || !c.Telephony {
		t.Errorf("%+v", c)
	}
	d.notify(active1h, calls(alice, "3", "partial", "confirmed"))
	began := h.claim(alice, plugin.Busy)
	if began.Activity != plugin.OnThePhone {
		t.Errorf("%+v", began)
	}
	if a := d.notify(active1h, calls(alice, "5", "partial", "terminated")); a != "SIP/2.0 200 OK" {
		t.Errorf("%s", a)
	}
	c := h.claim(alice, plugin.Available) // nothing before it, for what was said was kept
	if now := n.find(alice); now.callID == d.callID || c.Since.Before(began.Since) {
		t.Errorf("the same dialog, %+v", c)
	}
	var ended bool
	for range 2 {
		r := n.subscribed()
		ended = ended || r.Header("Call-ID") == d.callID && r.Header("Expires") == "0"
	}
	if !ended {
		t.Error("the old dialog is left")
	}
}

// TestForkedDialogs: a SUBSCRIBE for dialogs may reach several phones (RFC 4235 section 3.9);
// any of them being busy is enough, and all are told the end.
func TestForkedDialogs(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n, "event", "dialog"))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	n.subscribed()
	d := n.find(alice)
	fork := d.fork("fork")
	if a := fork.notify(active1h, calls(alice, "0", "full", "confirmed")); a != "SIP/2.0 200 OK" {
		t.Fatalf("%s", a)
	}
	h.claim(alice, plugin.Busy)
	d.notify(active1h, calls(alice, "2", "full"))
	h.quiet() // he is busy still
	fork.notify(active1h, calls(alice, "1", "partial", "terminated"))
	h.claim(alice, plugin.Available)
	fork.notify(active1h, calls(alice, "2", "partial", "confirmed"))
	h.claim(alice, plugin.Busy)
	fork.notify("terminated;reason=timeout", "")
	h.claim(alice, plugin.Available)
	// What was missed has the subscription replaced, and with it all of its forks.
	second := d.fork("second")
	second.notify(active1h, calls(alice, "0", "full", "confirmed"))
	h.claim(alice, plugin.Busy)
	d.notify(active1h, calls(alice, "9", "partial", "early"))
	ended := map[string]bool{}
	for range 3 {
		if r := n.subscribed(); r.Header("Expires") == "0" {
			_, tag, _ := strings.Cut(r.Header("To"), ";tag=")
			ended[tag] = true
		}
	}
	if !ended[d.tag] || !ended["second"] {
		t.Errorf("told the end: %v", ended)
	}
	h.claim(alice, plugin.Available)
}

// TestBoth: with both packages, the stronger of what they say counts, and one of them may be
// refused. Only when neither works is the host to ask again.
func TestBoth(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if d.who == "sip:bob@example.com" && d.event == "dialog" {
			d.answer(r, "489 Bad Event")
			return
		}
		if d.who == "sip:nobody@example.com" {
			d.answer(r, map[string]string{"dialog": "404 Not Found", "presence": "489 Bad Event"}[d.event])
			return
		}
		serving(d, r)
	})
	h, _ := start(t, to(n, "event", "both"))
	h.watch(alice)
	h.claim(alice, plugin.Available)
	n.subscribed()
	n.subscribed()
	var byEvent = map[string]*told{}
	n.mu.Lock()
	for _, d := range n.dialogs {
		byEvent[d.event] = d
	}
	n.mu.Unlock()
	byEvent["dialog"].notify(active1h, calls(alice, "7", "full", "confirmed"))
	if c := h.claim(alice, plugin.Busy); c.Activity != plugin.OnThePhone || !c.Telephony {
		t.Errorf("%+v", c)
	}
	byEvent["presence"].notify(active1h, strings.Replace(onPhone(alice), "<rpid:busy/><rpid:on-the-phone/>", "<rpid:dnd/>", 1))
	if c := h.claim(alice, plugin.DoNotDisturb); c.Telephony {
		t.Errorf("%+v", c)
	}
	byEvent["presence"].notify("terminated;reason=rejected", "")
	if c := h.claim(alice, plugin.Busy); !c.Telephony {
		t.Errorf("%+v", c)
	}
	byEvent["dialog"].notify("terminated;reason=deactivated", "")
	if s := h.sub(alice, plugin.Terminated); s.RetryAfter != 0 {
		t.Errorf("%+v", s)
	}
	h.watch("sip:bob@example.com")
	h.sub("sip:bob@example.com", plugin.Active)
	h.claim("sip:bob@example.com", plugin.Available)
	h.watch("sip:nobody@example.com")
	h.sub("sip:nobody@example.com", plugin.NotFound)
}

// TestOwnWord: what the host has published comes back in the server's document, and is no
// claim; others' tuples beside it are.
func TestOwnWord(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) { d.ok(r) })
	h, _ := start(t, to(n))
	h.watch(alice)
	n.subscribed()
	d := n.find(alice)
	own := string(pidf.RPID(pidf.Document{Entity: alice, TupleID: "busylamp", Activity: pidf.OnThePhone}))
	if a := d.notify(active1h, own); a != "SIP/2.0 200 OK" {
		t.Errorf("%s", a)
	}
	h.sub(alice, plugin.Active)
	h.quiet()
	other := `<tuple id="x"><status><basic>open</basic></status></tuple></presence>`
	d.notify(active1h, strings.Replace(own, "</presence>", other, 1))
	if c := h.claim(alice, plugin.Available); c.Activity != "" {
		t.Errorf("%+v", c)
	}
	d.notify(active1h, own)
	h.claim(alice, plugin.Unknown) // withdrawn: nobody else says anything any more
}

// TestRefreshOverNet: subscriptions are refreshed before they end, by themselves, and what they
// say goes on; one that the server has forgotten begins anew without a word to the host.
func TestRefreshOverNet(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", func(d *told, r siptest.Request) {
		if d.requests > 2 {
			d.answer(r, "481 Subscription does not exist")
			return
		}
		d.answer(r, "200 OK", "Expires: 1")
		d.send(d.notice("active;expires=1", open(d.who)))
	})
	h, _ := start(t, to(n))
	h.watch(alice)
	first := h.claim(alice, plugin.Available)
	seen := map[string]int{}
	for len(seen) < 2 || seen[n.find(alice).callID] < 2 {
		seen[n.subscribed().Header("Call-ID")]++
	}
	if c := h.claim(alice, plugin.Available); !c.Since.Equal(first.Since) || !c.Until.After(first.Until) {
		t.Errorf("%+v, then %+v", first, c)
	}
	h.sub(alice, plugin.Active)
	select {
	case s := <-h.subscriptions:
		t.Errorf("told %+v", s)
	default:
	}
}

// TestTel: telephone numbers are users of the domain.
func TestTel(t *testing.T) {
	t.Parallel()
	n := newNotifier(t, "udp", serving)
	h, _ := start(t, to(n, "domain", "pbx.example.com"))
	h.watch("tel:+31612345678")
	h.sub("tel:+31612345678", plugin.Active)
	h.claim("tel:+31612345678", plugin.Available)
	if r := n.subscribed(); r.StartLine() != "SUBSCRIBE sip:+31612345678@pbx.example.com;user=phone SIP/2.0" {
		t.Errorf("%s", r.StartLine())
	}
}
