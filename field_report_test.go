package busylamp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// report plays the course of one report from the field: an engine with two proxies and a
// presence server, in virtual time. Whatever a report is about, at every moment there is at
// most one PUBLISH outstanding for a presentity (I4) and one publication of it (I3).
type report struct {
	t       *testing.T
	e       *Engine
	now     time.Duration
	server  *simServer
	answer  func(Request) Outcome // nil: the server's own
	delay   time.Duration         // of an answer
	pending []answered
	sent    []Request                 // since it was last looked at
	up      [2]map[DialogID]CallEvent // what each proxy's list has
	stored  map[Presentity]Record

	requests, lists int // in all
}

type answered struct {
	at time.Duration
	r  Request
	o  Outcome
}

func newReport(t *testing.T) *report {
	r := &report{t: t, server: &simServer{entries: map[Presentity]map[string]simEntry{}}, stored: map[Presentity]Record{}}
	r.up = [2]map[DialogID]CallEvent{{}, {}}
	r.life()
	r.compare()
	return r
}

// life gives the sidecar a new life, which knows nothing yet. Requests of the earlier one
// stay unanswered. Its time goes on, as a record's times do.
func (r *report) life() {
	var err error
	r.e, err = New(Config{Proxies: []string{"p1", "p2"}, Directory: testDirectory{}, Early: true, Durable: true, Seed: 1,
		Publishers: []PublisherConfig{{Name: "s"}}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.pending = nil
	r.e.Advance(r.now)
}

// compare connects the proxies, and has the sidecar compare.
func (r *report) compare() {
	for i := range r.up {
		r.e.Connected(i, "1")
	}
	r.pass(time.Second)
}

// call states that a call has reached a stage, and tells.
func (r *report) call(proxy int, id uint32, stage Stage, caller, callee Presentity) {
	ev := CallEvent{Dialog: DialogID{1, id}, Stage: stage, Caller: string(caller), Callee: string(callee)}
	r.up[proxy][ev.Dialog] = ev
	r.tell(proxy, ev)
}

// over ends a call and tells nobody.
func (r *report) over(proxy int, id uint32) { delete(r.up[proxy], DialogID{1, id}) }

// end ends a call, and tells.
func (r *report) end(proxy int, id uint32) {
	r.over(proxy, id)
	r.tell(proxy, CallEvent{Dialog: DialogID{1, id}, Stage: Ended})
}

// tell hands an event to the sidecar.
func (r *report) tell(proxy int, ev CallEvent) {
	r.e.Calls(proxy, []CallEvent{ev})
	r.settle()
}

// settle does the engine's work: the proxies answer at once, the server after r.delay.
func (r *report) settle() {
	w := r.e.Take()
	for _, op := range w.Store {
		if r.stored[op.Record.Presentity] = op.Record; op.Delete {
			delete(r.stored, op.Record.Presentity)
		}
	}
	for _, p := range w.Publish {
		r.publish(p.Request)
	}
	for _, l := range w.Lists {
		r.lists++
		list := Listing{Epoch: "1"}
		for id, ev := range r.up[l.Proxy] {
			list.Live = append(list.Live, Listed{Dialog: id, Stage: ev.Stage})
		}
		r.e.Listed(l.Proxy, l.ID, list)
	}
	for _, d := range w.Details {
		for _, x := range d.Wanted {
			r.e.Detailed(d.Proxy, d.ID, []CallEvent{r.up[d.Proxy][x.Dialog]})
		}
		r.e.Resynced(d.Proxy, d.ID)
	}
	if len(w.Lists)+len(w.Details) > 0 {
		r.settle()
	}
}

// publish has the server take a request, and answer later.
func (r *report) publish(req Request) {
	for _, p := range r.pending {
		if p.r.Presentity == req.Presentity {
			r.t.Fatalf("I4: %v of %s while %v is outstanding", req.Kind, req.Presentity, p.r.Kind)
		}
	}
	r.sent = append(r.sent, req)
	r.requests++
	var o Outcome
	if r.answer != nil {
		o = r.answer(req)
	} else {
		o = r.server.take(req, r.now)
	}
	if n := len(r.server.live(req.Presentity, r.now)); n > 1 {
		r.t.Fatalf("I3: %d publications of %s after %v", n, req.Presentity, req.Kind)
	}
	r.pending = append(r.pending, answered{r.now + r.delay, req, o})
}

// pass lets time pass.
func (r *report) pass(d time.Duration) {
	for end := r.now + d; r.now < end; {
		r.now += wheelTick
		r.e.Advance(r.now)
		r.settle()
		for slices.ContainsFunc(r.pending, r.due) {
			i := slices.IndexFunc(r.pending, r.due)
			p := r.pending[i]
			r.pending = slices.Delete(r.pending, i, i+1)
			r.e.Settled(p.r, p.o)
			r.settle()
		}
	}
}

func (r *report) due(p answered) bool { return p.at <= r.now }

// shows lets a second pass and checks what the server shows of somebody; "" is nothing.
func (r *report) shows(who Presentity, want string) {
	r.t.Helper()
	r.pass(time.Second)
	r.has(who, want)
}

// has checks what the server shows of somebody now.
func (r *report) has(who Presentity, want string) {
	r.t.Helper()
	var states []string
	for _, e := range r.server.live(who, r.now) {
		states = append(states, e.state)
	}
	if got := strings.Join(states, " "); got != want {
		r.t.Fatalf("at %v: the server shows %s as %q, want %q; sent: %s", r.now, who, got, want, r.kinds())
	}
}

// kinds names what was sent, in its order, and forgets it.
func (r *report) kinds() string {
	var kinds []string
	for _, req := range r.sent {
		kinds = append(kinds, req.Kind.String())
	}
	r.sent = nil
	return strings.Join(kinds, " ")
}

// sends checks what was sent since it was last asked.
func (r *report) sends(want string) {
	r.t.Helper()
	if got := r.kinds(); got != want {
		r.t.Fatalf("at %v: sent %q, want %q", r.now, got, want)
	}
}

// records returns what the store has, in order.
func (r *report) records() []Record {
	return slices.SortedFunc(maps.Values(r.stored), func(a, b Record) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}
