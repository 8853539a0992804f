package stack

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestNotifier: it answers, tells of changes, refuses and ends as it is told, and counts.
func TestNotifier(t *testing.T) {
	t.Parallel()
	s := newTestStack(t)
	n, err := s.Notifier(0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Watcher(n.Addr, Domain)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Watch(t.Context(), "alice", "bob"); err != nil {
		t.Fatal(err)
	}
	until(t, w, "alice", "a document", shows("<basic>open</basic>"))
	n.Set("alice", PIDF("sip:alice@"+Domain, "t1", "", "on-the-phone"))
	if seen := until(t, w, "alice", "the call", shows("on-the-phone")); !seen.OnThePhone {
		t.Error("alice is not on the phone")
	}
	if err := w.WatchBy(t.Context(), Dialog, "carol"); err != nil {
		t.Fatal(err)
	}
	until(t, w, "carol", "a dialog-info document", shows("dialog-info"))
	n.Refuse(func(user string) string {
		if user == "mallory" {
			return "403 Forbidden"
		}
		return ""
	})
	if err := w.Watch(t.Context(), "mallory"); err == nil || !strings.Contains(err.Error(), "403 Forbidden") {
		t.Errorf("mallory: %v", err)
	}
	n.Terminate("bob", "deactivated")
	if err := s.Wait(t.Context(), 5*time.Second, "the end", func() error {
		if err := w.Err(); err == nil || !strings.Contains(err.Error(), "deactivated") {
			return fmt.Errorf("the watcher says %w", orUnknown(err))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if live := n.Live(); live != 2 {
		t.Errorf("%d subscriptions, not 2", live)
	}
	if c := n.Counts(); c.Initial != 4 || c.Notifies-c.Again != 5 || c.Lost != 0 {
		t.Errorf("%+v", c)
	}
	if most, _ := n.Peak(); most != 4 {
		t.Errorf("%d in the worst second, not 4", most)
	}
}

// TestNotifierRepeats: a NOTIFY that nobody answers is sent again, and an answer of 481 ends
// its subscription; a SUBSCRIBE that is repeated gets the same answer.
func TestNotifierRepeats(t *testing.T) {
	t.Parallel()
	s := newTestStack(t)
	n, err := s.Notifier(0)
	if err != nil {
		t.Fatal(err)
	}
	var a agent
	heard := 0 // by the socket's goroutine alone
	done := make(chan struct{})
	err = a.open(n.Addr, func(m *message, from netip.AddrPort) {
		if heard++; heard == 2 {
			a.socket.send(from, m.response("481 Subscription Does Not Exist", "", "", ""))
			close(done)
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.socket.close()
	subscribe := request{method: "SUBSCRIBE", uri: "sip:alice@" + Domain, branch: "z9hG4bKsame", cseq: 1, callID: "c1",
		from: "<sip:w@" + Domain + ">;tag=1", to: "<sip:alice@" + Domain + ">",
		extra: "Event: presence\r\nExpires: 600\r\nContact: <sip:" + a.socket.addr.String() + ">\r\n"}
	first, err := a.do(t.Context(), subscribe)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.do(t.Context(), subscribe)
	if err != nil || second.get("to") != first.get("to") {
		t.Errorf("the repetition: %v, To: %s, not %s", err, second.get("to"), first.get("to"))
	}
	<-done
	if err := s.Wait(t.Context(), 5*time.Second, "the subscription's end", func() error {
		if live := n.Live(); live != 0 {
			return fmt.Errorf("%d live", live)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if c := n.Counts(); c.Initial != 1 || c.Repeats != 1 || c.Again != 1 || c.Lost != 1 {
		t.Errorf("%+v", c)
	}
}
