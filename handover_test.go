package busylamp

import (
	"testing"
	"time"
)

// An application's presentity is always published, and follows its calls if it is to.
func TestEndpoint(t *testing.T) {
	w := newWatching(t, func(cfg *Config) {
		cfg.Sides = SideBoth
		cfg.Endpoints = []EndpointConfig{{Presentity: userA, BusyAt: 2}, {Presentity: userB, State: Available}}
	})
	call := func(id uint32, stage Stage) {
		w.e.Calls(0, []CallEvent{{Dialog: DialogID{1, id}, Stage: stage, Caller: string(userA), Callee: string(userB)}})
		w.take()
	}
	w.pass(time.Second)
	w.shows(0, Available)
	call(1, Confirmed)
	w.shows(0, Available)
	call(2, Confirmed)
	w.shows(0, OnThePhone)
	call(1, Ended)
	w.shows(0, Available)
	call(2, Ended)
	if v, found := w.e.View(userB); !found || v.Publications[0].Has != Available {
		t.Errorf("an endpoint with a state of its own: %+v", v)
	}
	w.pass(time.Hour)
	w.shows(0, Available) // refreshed
	w.e.Withdraw()
	w.take()
	if n := w.e.Live(); n != 0 {
		t.Errorf("%d publications are left", n)
	}
}

// A new configuration goes on with what sources watch and have said.
func TestHandover(t *testing.T) {
	w := newWatching(t, nil)
	w.up(0, SourceInfo{})
	w.up(1, SourceInfo{})
	for _, who := range []Presentity{userA, userB} {
		w.e.Watch(who, "x", 0)
		w.pass(time.Second)
		w.goes(0, who, Subscribed)
	}
	w.says(0, Statement{Presentity: userA, State: DoNotDisturb, For: time.Hour})
	w.says(1, Statement{Presentity: userA, State: Busy, For: time.Hour})
	w.says(0, Statement{Presentity: userB, State: Busy, For: time.Hour})
	w.pass(10 * time.Minute)

	next := newWatching(t, nil)
	next.e.Watch(userA, "x", 0)
	next.e.Inherit(w.e.Handover(w.now), map[string]bool{"a": true})
	next.pass(time.Second)
	next.shows(0, DoNotDisturb)
	if len(next.asked) != 1 || len(next.asked[0].Unwatch) != 1 || next.asked[0].Unwatch[0] != userB {
		t.Errorf("want the one unwatched who is asked for no more: %+v", next.asked)
	}
	if got := next.e.SourceStatuses(); !got[0].Running || got[1].Running || got[0].Words["do not disturb"] != 1 {
		t.Errorf("%+v", got)
	}
	if _, found := next.e.View(userB); found {
		t.Error("the claim about somebody whom nobody asks for is inherited")
	}
	next.pass(30 * time.Second)
	next.shows(0, DoNotDisturb)
	if v, _ := next.e.View(userA); len(v.Sources) != 2 || v.Sources[1].State != Unknown {
		t.Errorf("the claim of a source that was not kept outlives its grace: %+v", v.Sources)
	}
	next.pass(50 * time.Minute)
	next.shows(0, Unknown) // as it was stated
}

// What was taken over stays until the sources have spoken: a restart shows no user free who
// is not.
func TestTakeOverAwaitsSources(t *testing.T) {
	w := newWatching(t, nil)
	w.e.TakeOver([]Record{{Publisher: "s", Presentity: userA, Tag: "t", State: DoNotDisturb, Expires: time.Hour, Refresh: 30 * time.Minute, Sourced: true},
		{Publisher: "s", Presentity: userB, Tag: "t", State: OnThePhone, Expires: time.Hour, Refresh: 30 * time.Minute}})
	w.e.Watch(userA, "x", 0)
	w.pass(2 * time.Second)
	w.shows(0, DoNotDisturb)
	if _, found := w.e.View(userB); found {
		t.Error("the source is waited for of whom it never spoke")
	}
	w.up(0, SourceInfo{})
	w.up(1, SourceInfo{})
	w.pass(2 * time.Second)
	w.shows(0, DoNotDisturb)
	w.goes(0, userA, Subscribed)
	w.says(0, Statement{Presentity: userA, State: Available})
	w.shows(0, DoNotDisturb) // b has said nothing
	w.goes(1, userA, NotFound)
	w.shows(0, Unknown)
}
