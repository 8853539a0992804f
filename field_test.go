package busylamp

import (
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/record"
)

// field are reports from the trackers of Kamailio, OpenSIPS and those who build on them.
// Each is played as it was told, as far as a core that reconciles can be brought there, and
// ends as it should have.
var field = []struct {
	name string
	play func(*report)
}{
	{"kamailio#1512", threeEnds},
	{"kamailio#2048", endless412},
	{"kamailio#3192", earlyAfterTerminated},
	{"kamailio#2906", forkLoser},
	{"kamailio#4565", duplicatesPileUp},
	{"kamailio#724", secondBeforeTheTag},
	{"kamailio#3229", terminatedLeftBusy},
	{"kamailio#1427", transfer},
	{"kamailio#545", stateFive},
	{"opensips#3801", tagNotReused},
	{"opensips#240", restartLacksTheTag},
	{"opensips#1578", hold},
	{"opensips#2249", fastPublishes},
	{"opensips#1869", otherNodeLacksTheTag},
	{"opensips#3880", endAtAnotherNode},
	{"ivozprovider#1570", rejectedAfterDialog},
}

func TestField(t *testing.T) {
	requests := 0
	for _, f := range field {
		t.Run(f.name, func(t *testing.T) {
			r := newReport(t)
			f.play(r)
			for who := range r.server.entries { // all of them end with everybody free
				r.shows(who, "")
			}
			requests += r.requests
			if st := r.e.Stats(); st.Calls != 0 || st.People != 0 {
				t.Errorf("%d calls and %d people are kept", st.Calls, st.People)
			}
		})
	}
	record.Fault(t, "field", len(field), "%d reports played with %d requests: never two publications of one user or two requests at a time, everybody free at the end",
		len(field), requests)
}

const onThePhone, ringing = "on-the-phone", "ringing"

// Kamailio raised three END events for one call by evapi, and the billing behind it counted
// three calls. Here the second and the third change nothing: neither the lamp, nor another
// call of the same user.
func threeEnds(r *report) {
	r.call(0, 1, Confirmed, userA, userB)
	r.call(0, 2, Confirmed, userA, "sip:c@example.com")
	r.shows(userA, onThePhone)
	for range 3 {
		r.end(0, 1)
	}
	r.shows(userA, onThePhone)
	r.shows(userB, "")
	for range 3 {
		r.end(0, 2)
	}
	r.shows(userA, "")
	r.pass(time.Hour)
	r.sends("initial initial initial remove remove remove") // one each for three users
}

// Callbacks of one dialog at the same time sent several PUBLISH with one entity-tag; all but
// one got 412, and their retries raced for ever; so did all with a server that only answers
// 412. Here they wait for the tag, and the server is asked at a bounded rate.
func endless412(r *report) {
	r.delay = 300 * time.Millisecond
	for range 10 { // early, confirmed and ended, all of them before the first answer
		r.call(0, 1, Early, userA, "")
		r.call(0, 1, Confirmed, userA, "")
	}
	r.shows(userA, onThePhone)
	r.sends("initial modify")
	r.answer = func(Request) Outcome { return gone }
	r.server.entries = map[Presentity]map[string]simEntry{}
	r.pass(10 * time.Minute)
	if n := len(r.sent); n < 10 || n > 60 {
		r.t.Errorf("%d requests in 10 minutes to a server that knows nothing but 412", n)
	}
	r.answer = nil
	r.pass(30 * time.Second)
	r.has(userA, onThePhone)
	r.end(0, 1)
}

// A called user who was busy: one process published "terminated" for the 486, and another
// one "early" for the 183 before it, later. The lamp blinked until the publication expired.
func earlyAfterTerminated(r *report) {
	r.call(0, 1, Early, "", userB)
	r.shows(userB, ringing)
	r.end(0, 2) // the second call's 486
	r.tell(0, CallEvent{Dialog: DialogID{1, 2}, Stage: Early, Callee: string(userB)})
	r.tell(0, CallEvent{Dialog: DialogID{1, 2}, Stage: Confirmed, Callee: string(userB)})
	r.shows(userB, ringing)
	r.call(0, 1, Confirmed, "", userB)
	r.tell(0, CallEvent{Dialog: DialogID{1, 1}, Stage: Early, Callee: string(userB)}) // its 180, late as well
	r.shows(userB, onThePhone)
	r.end(0, 1)
	r.shows(userB, "")
	r.sends("initial modify remove")
}

// A call was forked to two phones of one user; the CANCEL to the one that lost published
// "terminated" while the call was up. Here calls are counted, by dialog and by proxy.
func forkLoser(r *report) {
	r.call(0, 1, Early, userA, userB)
	r.call(0, 2, Early, userA, userB)
	r.call(1, 1, Early, userA, userB) // of the same number, at another proxy
	r.shows(userB, ringing)
	r.call(0, 2, Confirmed, userA, userB)
	r.end(0, 1)
	r.end(1, 1)
	r.shows(userB, onThePhone)
	r.pass(time.Hour)
	r.has(userB, onThePhone)
	r.end(0, 2)
}

// Entries of one entity-tag piled up in the presence server, and watchers were told one of
// them. What the sidecar can do: every request but the first has the last tag, all day long.
func duplicatesPileUp(r *report) {
	tag := ""
	r.answer = func(req Request) Outcome {
		if req.Tag != tag {
			r.t.Fatalf("%v with tag %q after %q", req.Kind, req.Tag, tag)
		}
		o := r.server.take(req, r.now)
		tag = o.Tag
		return o
	}
	r.call(0, 1, Early, userA, "")
	for range 24 {
		r.pass(30 * time.Minute)
		r.call(0, 1, Confirmed, userA, "")
		r.pass(30 * time.Minute)
		r.has(userA, onThePhone)
	}
	if len(r.sent) < 100 {
		r.t.Errorf("only %d requests in a day", len(r.sent))
	}
	r.end(0, 1)
}

// The PUBLISH of "early" left before the 200 of "trying" had brought its entity-tag, and so
// made a second publication, which nobody ended.
func secondBeforeTheTag(r *report) {
	r.delay = 400 * time.Millisecond
	r.call(0, 1, Early, userA, "")
	r.pass(100 * time.Millisecond)
	r.call(0, 1, Confirmed, userA, "")
	r.pass(100 * time.Millisecond)
	r.sends("initial")
	r.pass(time.Second)
	if m := r.sent[0]; m.Kind != Modify || m.Tag == "" {
		r.t.Errorf("then %v with tag %q", m.Kind, m.Tag)
	}
	r.shows(userA, onThePhone)
	r.end(0, 1)
	r.pass(time.Second)
}

// A PUBLISH with "terminated" in its body and Expires 0 left users busy at the replicas of
// a presence server. A removal here is RFC 3903's: the tag, Expires 0, and no state at all.
func terminatedLeftBusy(r *report) {
	r.call(0, 1, Confirmed, userA, "")
	r.shows(userA, onThePhone)
	r.end(0, 1)
	r.pass(time.Second)
	last := r.sent[len(r.sent)-1]
	if last.Kind != Remove || last.Expires != 0 || last.Tag == "" {
		r.t.Errorf("ended by %+v", last)
	}
	r.has(userA, "")
}

// An attended transfer: of a user's two dialogs one ended, then the other, and a document
// of both confused the presence server. Here one state stands for all dialogs.
func transfer(r *report) {
	r.call(0, 1, Confirmed, userA, userB)
	r.call(0, 2, Confirmed, userB, "sip:c@example.com")
	r.shows(userB, onThePhone)
	r.call(0, 3, Confirmed, userA, "sip:c@example.com") // REFER with Replaces
	r.end(0, 2)
	r.shows(userB, onThePhone)
	r.end(0, 1)
	r.shows(userB, "")
	r.shows(userA, onThePhone)
	r.shows("sip:c@example.com", onThePhone)
	r.end(0, 3)
}

// A dialog in state 5 stayed in the proxy's list until it was restarted. The adapter leaves
// those out (adapters/kamailio, truth.go), and what is not in the list is over.
func stateFive(r *report) {
	r.call(0, 1, Confirmed, userA, userB)
	r.shows(userA, onThePhone)
	r.over(0, 1) // its event was lost
	r.e.Doubt(0, "an event was lost")
	r.shows(userA, "")
	r.shows(userB, "")
}

// The states of one call were published without the entity-tag of the one before: each made
// a publication of its own, and the first ones were refreshed for ever.
func tagNotReused(r *report) {
	r.call(0, 1, Early, userA, "")
	r.shows(userA, ringing)
	r.call(0, 1, Confirmed, userA, "")
	r.shows(userA, onThePhone)
	r.end(0, 1)
	r.shows(userA, "")
	r.pass(2 * time.Hour)
	r.sends("initial modify remove")
}

// After a restart the end of a call that was up before published nothing, for nobody knew
// its entity-tag any more. Here it is kept, even if the end comes while nobody listens.
func restartLacksTheTag(r *report) {
	r.call(0, 1, Confirmed, userA, userB)
	r.call(0, 2, Confirmed, "sip:c@example.com", "")
	r.shows(userB, onThePhone)
	r.sends("initial initial initial")
	left := r.e.Records()
	r.over(0, 2)
	r.life()
	r.e.TakeOver(left)
	r.compare()
	r.shows("sip:c@example.com", "")
	r.shows(userA, onThePhone)
	r.end(0, 1)
	r.shows(userA, "")
	r.shows(userB, "")
	r.sends("remove remove remove")
}

// A call on hold was to be shown as held and was not. Decided: who has put somebody on hold
// is still on the phone. The re-INVITE raises no event (kamailio-cfg, TestReinviteGivesNothing),
// and if one came it would be the same as before: nothing changes.
func hold(r *report) {
	r.call(0, 1, Confirmed, userA, userB)
	r.shows(userA, onThePhone)
	r.sends("initial initial")
	r.call(0, 1, Confirmed, userA, userB)
	r.pass(10 * time.Second) // before the first sentinel
	r.sends("")
	r.has(userA, onThePhone)
	r.has(userB, onThePhone)
	r.end(0, 1)
}

// PUBLISH requests of one presentity in fast succession corrupted what the presence server
// had. Here whatever comes while one is outstanding is one request, with the last state.
func fastPublishes(r *report) {
	r.delay = time.Second
	for i := range uint32(25) {
		r.call(0, 2*i, Early, userA, "")
		r.call(0, 2*i, Confirmed, userA, "")
		r.end(0, 2*i)
		r.call(0, 2*i+1, Confirmed, userA, "")
		if i < 24 {
			r.end(0, 2*i+1)
		}
	}
	r.pass(3 * time.Second)
	r.sends("initial modify")
	r.has(userA, onThePhone)
	r.end(0, 49)
	r.pass(2 * time.Second)
	r.sends("remove")
}

// The node of a cluster that took the calls over had no entity-tags, so that lamps stayed
// lit after them. Here the node that takes over has what the dead one's store was told, up
// to the last answer.
func otherNodeLacksTheTag(r *report) {
	r.call(0, 1, Confirmed, userA, "")
	r.call(0, 2, Early, userB, "")
	r.shows(userA, onThePhone)
	r.call(0, 2, Confirmed, userB, "")
	r.shows(userB, onThePhone)
	r.kinds()
	left := r.records()
	if len(left) != 2 {
		r.t.Fatalf("the store has %+v", left)
	}
	r.life() // killed: nobody was asked for records
	r.e.TakeOver(left)
	r.has(userB, onThePhone)
	r.over(0, 2)
	r.compare()
	r.shows(userB, "")
	r.end(0, 1)
	r.shows(userA, "")
	r.sends("remove remove")
}

// The BYE went to another node than the INVITE, and the first was told that the dialog is
// gone but raised no event: its lamp stayed lit. Here an end belongs to its own proxy's
// dialog, and the proxy's list ends what it does not have, by the next audit at the latest.
func endAtAnotherNode(r *report) {
	r.call(0, 1, Confirmed, userA, "")
	r.shows(userA, onThePhone)
	r.over(0, 1)
	r.tell(1, CallEvent{Dialog: DialogID{1, 1}, Stage: Ended})
	r.shows(userA, onThePhone) // in doubt, stay busy
	lists := r.lists
	r.pass(7 * time.Minute)
	if r.lists == lists {
		r.t.Fatal("no audit in 7 minutes")
	}
	r.has(userA, "")
}

// Calls that the script rejected after dlg_manage() were published as "trying" and never as
// ended: red for 3 hours. Here such a call is no more than early; the audit ends it, and
// were there none, the publication would not outlive its Expires of 10 minutes.
func rejectedAfterDialog(r *report) {
	r.call(0, 1, Early, userA, "")
	r.shows(userA, ringing)
	r.over(0, 1)
	r.pass(7 * time.Minute)
	r.has(userA, "")
	r.call(0, 2, Early, userB, "")
	r.shows(userB, ringing)
	r.over(0, 2)
	r.now += 10 * time.Minute // and the sidecar is dead
	r.has(userB, "")
	r.life()
	r.compare()
}
