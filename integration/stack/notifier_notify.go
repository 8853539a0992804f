package stack

import (
	"fmt"
	"time"
)

// notify sends a NOTIFY; with a reason, it is the last.
func (n *Notifier) notify(sub *notified, reason string) {
	state := fmt.Sprintf("active;expires=%d", max(int(time.Until(sub.until).Seconds()), 0))
	if reason != "" {
		state = "terminated;reason=" + reason
	}
	sub.cseq++
	extra := "Event: " + sub.event + "\r\nSubscription-State: " + state + "\r\nContact: <sip:" + n.Addr + ">\r\n"
	body := n.document(sub)
	if body != "" {
		extra += "Content-Type: " + documentType(sub.event) + "\r\n"
	}
	branch := newBranch()
	text := request{method: "NOTIFY", uri: sub.target, branch: branch, from: sub.local, to: sub.remote, callID: sub.callID,
		cseq: sub.cseq, extra: extra, via: n.Addr, body: body}.String()
	now := time.Now()
	n.pending[branch] = &notifying{sub: sub, text: text, at: now.Add(t1), wait: t1, until: now.Add(timerF)}
	n.counts.Notifies++
	n.socket.send(sub.from, text)
}

// document returns how a user is.
func (n *Notifier) document(sub *notified) string {
	if document, ok := n.said[sub.user]; ok {
		return document
	}
	entity := "sip:" + sub.user + "@" + Domain
	if sub.event == "dialog" {
		return DialogInfo(entity, sub.cseq, "")
	}
	return PIDF(entity, "t-"+sub.user, "")
}

// documentType is what a package's documents are.
func documentType(event string) string {
	if event == "dialog" {
		return Dialog.Accept
	}
	return Presence.Accept
}

// DialogInfo writes a document of RFC 4235 with the full state: one dialog in a state such as
// confirmed, none if that is "".
func DialogInfo(entity string, version int, state string) string {
	dialog := ""
	if state != "" {
		dialog = `<dialog id="d1" direction="initiator"><state>` + state + `</state></dialog>`
	}
	return fmt.Sprintf(`<?xml version="1.0"?><dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="%d" state="full" entity=%q>%s</dialog-info>`,
		version, entity, dialog) + "\n"
}

// answered takes the answer to a NOTIFY. An error ends the subscription (RFC 6665 section
// 4.2.2).
func (n *Notifier) answered(m *message) {
	p := n.pending[m.branch()]
	if p == nil || m.status() < 200 {
		return
	}
	delete(n.pending, m.branch())
	if m.status() >= 300 && n.subs[p.sub.key] == p.sub {
		n.counts.Lost++
		n.drop(p.sub)
	}
}

// repeat sends NOTIFYs again that were not answered (RFC 3261 section 17.1.2), until the
// notifier closes.
func (n *Notifier) repeat() {
	tick := time.NewTicker(notifierTick)
	defer tick.Stop()
	for {
		select {
		case <-n.quit:
			return
		case now := <-tick.C:
			n.repeatDue(now)
		}
	}
}

func (n *Notifier) repeatDue(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for branch, p := range n.pending {
		switch {
		case now.After(p.until):
			delete(n.pending, branch)
			if n.subs[p.sub.key] == p.sub {
				n.counts.Lost++
				n.drop(p.sub)
			}
		case now.After(p.at):
			n.counts.Notifies++
			n.counts.Again++
			p.wait = min(2*p.wait, t2)
			p.at = now.Add(p.wait)
			n.socket.send(p.sub.from, p.text)
		}
	}
}
