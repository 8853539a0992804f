package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// newPBX starts a PBX with phones of carol and dave, who are on its list team, and a watcher.
func newPBX(t *testing.T) (*Stack, *Phones, *Watcher) {
	t.Helper()
	s := newTestStack(t)
	pbx, err := s.PBX(t.Context(), KamailioOptions{Lists: []List{{URI: "sip:team@" + PBXDomain, Owner: "watcher@" + PBXDomain,
		Members: []string{"sip:carol@" + PBXDomain, "sip:dave@" + PBXDomain}}}})
	if err != nil {
		t.Fatal(err)
	}
	phones, err := s.Phones(pbx.Addr, PBXDomain)
	if err != nil {
		t.Fatal(err)
	}
	if err := phones.Register(t.Context(), "carol", "dave"); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watcher(pbx.Addr, PBXDomain)
	if err != nil {
		t.Fatal(err)
	}
	return s, phones, w
}

// until returns the first sighting of a user that is as wanted.
func until(t *testing.T, w *Watcher, user, what string, wanted func(Sighting) bool) Sighting {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	last := "nothing"
	for {
		select {
		case s := <-w.Seen():
			if s.User == user && wanted(s) {
				return s
			}
			last = fmt.Sprintf("of %s, %s:\n%s", s.User, s.Type, s.Document)
		case <-ctx.Done():
			t.Fatalf("%s: not seen: %v; last %s", what, errors.Join(ctx.Err(), w.Err()), last)
		}
	}
}

func shows(text string) func(Sighting) bool {
	return func(s Sighting) bool { return strings.Contains(s.Document, text) }
}

// TestPBXCallShowsAsDialog: a call of a phone there is seen by Event: dialog, and so is its
// end.
func TestPBXCallShowsAsDialog(t *testing.T) {
	t.Parallel()
	_, phones, w := newPBX(t)
	if err := w.WatchBy(t.Context(), Dialog, "carol"); err != nil {
		t.Fatal(err)
	}
	call, err := phones.Call(t.Context(), "carol", "dave")
	if err != nil {
		t.Fatal(err)
	}
	seen := until(t, w, "carol", "the call", shows("<state>confirmed</state>"))
	if seen.Event != "dialog" || seen.Type != "application/dialog-info+xml" {
		t.Errorf("the NOTIFY is of %s, %s", seen.Event, seen.Type)
	}
	if err := call.Hangup(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, w, "carol", "the call's end", func(s Sighting) bool {
		return strings.Contains(s.Document, "<state>terminated</state>") && !strings.Contains(s.Document, "confirmed")
	})
}

// TestPBXPublicationShowsAsPresence: what a phone there publishes is seen by Event: presence,
// until it is withdrawn.
func TestPBXPublicationShowsAsPresence(t *testing.T) {
	t.Parallel()
	_, phones, w := newPBX(t)
	if err := w.Watch(t.Context(), "carol"); err != nil {
		t.Fatal(err)
	}
	if err := phones.Publish(t.Context(), "carol", PIDF("sip:carol@"+PBXDomain, "soft", "At work", "busy")); err != nil {
		t.Fatal(err)
	}
	until(t, w, "carol", "busy", shows("<rpid:busy/>"))
	if err := phones.Publish(t.Context(), "carol", PIDF("sip:carol@"+PBXDomain, "soft", "", "away")); err != nil {
		t.Fatal(err)
	}
	until(t, w, "carol", "away", shows("<rpid:away/>"))
	if err := phones.Publish(t.Context(), "carol", ""); err != nil {
		t.Fatal(err)
	}
	until(t, w, "carol", "the withdrawal", func(s Sighting) bool { return !strings.Contains(s.Document, "rpid:away") })
}

// TestPBXList: a list is told of as one, by RLMI and the members' own documents.
func TestPBXList(t *testing.T) {
	t.Parallel()
	_, phones, w := newPBX(t)
	if err := w.WatchBy(t.Context(), Members, "team"); err != nil {
		t.Fatal(err)
	}
	seen := until(t, w, "team", "the list's members", func(s Sighting) bool {
		return strings.Contains(s.Document, "sip:carol@"+PBXDomain) && strings.Contains(s.Document, "sip:dave@"+PBXDomain)
	})
	if !strings.HasPrefix(seen.Type, "multipart/related") || !strings.Contains(seen.Document, "application/rlmi+xml") {
		t.Errorf("the NOTIFY is of %s:\n%s", seen.Type, seen.Document)
	}
	if err := phones.Publish(t.Context(), "dave", PIDF("sip:dave@"+PBXDomain, "soft", "", "meeting")); err != nil {
		t.Fatal(err)
	}
	until(t, w, "team", "the meeting", shows("<rpid:meeting/>"))
}
