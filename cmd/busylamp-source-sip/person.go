package main

import (
	"slices"
	"time"

	"github.com/busylamp/busylamp/plugin"
)

// person is a presentity that the host wants watched.
type person struct {
	name    string // the presentity
	account int
	legs    []*leg
	told    verdict // that the host knows
	saying  bool    // the host has a claim
	since   time.Time
	last    plugin.Claim // as it was stated last
	said    stated       // the same, if the host need not hear it again
}

// leg is the watching of a presentity by one event package.
type leg struct {
	person  *person
	pkg     *eventPackage
	verdict verdict
	sub     *sub   // its own subscription; nil: none so far
	forks   []*sub // that its SUBSCRIBE has beside
	member  *member
}

func (g *leg) dropFork(s *sub) {
	g.forks = slices.DeleteFunc(g.forks, func(f *sub) bool { return f == s })
}

// requested takes whom the host wants watched, and whom no more.
func (w *watcher) requested(now time.Time, r plugin.Request) {
	for _, t := range r.Watch {
		w.watch(now, t)
	}
	for _, name := range r.Unwatch {
		w.unwatch(now, name)
	}
}

// watch begins to watch a presentity, or asks anew for one that is watched.
func (w *watcher) watch(now time.Time, t plugin.Target) {
	account := min(max(t.Endpoint, 0), len(w.cfg.accounts)-1)
	p := w.persons[t.Presentity]
	if p != nil && p.account != account {
		w.unwatch(now, p.name) // another account's subscription is another subscription
		p = nil
	}
	if p == nil {
		if len(w.persons) >= w.cfg.most {
			w.out.subscription(plugin.Subscription{Presentity: t.Presentity, State: plugin.Failed,
				Reason: "max_subscriptions are watched already: raise it"})
			return
		}
		p = &person{name: t.Presentity, account: account}
		for _, pkg := range w.cfg.packages {
			p.legs = append(p.legs, &leg{person: p, pkg: pkg})
		}
		w.persons[p.name] = p
	}
	p.told, p.said = verdict{}, stated{} // both are told anew
	for _, g := range p.legs {
		w.ask(now, g)
	}
	w.report(now, p)
	w.state(now, p)
}

// ask subscribes one leg, or refreshes its subscription, unless a list does that for it.
func (w *watcher) ask(now time.Time, g *leg) {
	if served, waits := w.serve(g); served || waits {
		if waits {
			g.verdict = verdict{state: plugin.Requesting}
		}
		return
	}
	if why := w.lines[g.person.account].denied; why != "" && (g.sub == nil || g.sub.phase == idle) {
		g.verdict = verdict{state: plugin.AccessDenied, reason: why} // not asked: that would lock us out
		return
	}
	if !w.owns(g) {
		return
	}
	st := g.sub.ask(now)
	if g.sub.phase == opening {
		g.verdict = verdict{state: plugin.Requesting}
	}
	w.carry(now, g.sub, st)
}

// owns gives a leg a subscription of its own, unless it has one, and returns whether that is
// possible. It is not opened yet.
func (w *watcher) owns(g *leg) bool {
	if g.sub != nil {
		return true
	}
	uri, err := w.cfg.accounts[g.person.account].uriOf(g.person.name)
	if err != nil {
		g.verdict = verdict{state: plugin.NotFound, reason: err.Error()}
		return false
	}
	g.sub = w.newSub(g.pkg, uri, g.person.account)
	g.sub.leg = g
	return true
}

func (w *watcher) newSub(pkg *eventPackage, uri string, account int) *sub {
	return &sub{pkg: pkg, uri: uri, account: account, wanted: w.cfg.expires, timeN: w.cfg.timeout, rand: random}
}

// unwatch ends a presentity's watching.
func (w *watcher) unwatch(now time.Time, name string) {
	p := w.persons[name]
	if p == nil {
		return
	}
	delete(w.persons, name)
	w.out.forget(name)
	for _, g := range p.legs {
		w.release(now, g)
	}
}

// release ends what a leg has of its own.
func (w *watcher) release(now time.Time, g *leg) {
	w.endForks(g)
	if g.member != nil {
		g.member.leg, g.member = nil, nil
	}
	if s := g.sub; s != nil {
		s.leg, g.sub = nil, nil
		s.hearing = hearing{}
		w.carry(now, s, s.close())
	}
}

func (w *watcher) endForks(g *leg) {
	forks := g.forks
	g.forks = nil
	for _, s := range forks {
		s.leg = nil
		w.carry(time.Now(), s, s.close())
	}
}

// legTold takes how a leg's own subscription goes.
func (w *watcher) legTold(now time.Time, g *leg, v verdict) {
	g.verdict = v
	w.report(now, g.person)
}

// What becomes of a leg that has ended while another one is active: of that, the host knows
// nothing.
const (
	retryBeside = 15 * time.Minute // when one that was refused is tried again
	graceBeside = 30 * time.Second // how long what it has said still counts
	paceBeside  = 15               // those a second that begin because a list does not serve them
)

// report tells the host how a presentity's watching goes, if that has changed. While one leg
// works, the others are looked after here; else the host asks again.
func (w *watcher) report(now time.Time, p *person) {
	v := p.verdict()
	for _, g := range p.legs {
		if v.state == plugin.Active && g.member == nil && g.verdict.state == plugin.Terminated {
			w.owns(g) // a list has left it alone
		}
		if g.sub == nil || g.sub.phase != idle {
			continue
		}
		var again time.Time
		if v.state == plugin.Active {
			again = w.beside(now, g)
			w.fade(now, g)
		}
		w.later(g.sub, again)
	}
	if v.state == 0 || v == p.told {
		return
	}
	p.told = v
	w.out.subscription(plugin.Subscription{Presentity: p.name, State: v.state, Reason: v.reason, RetryAfter: v.retry})
}

// beside returns when a leg's own subscription, which has ended or never began, is to begin
// while another leg is active; zero for never.
func (w *watcher) beside(now time.Time, g *leg) time.Time {
	switch {
	case g.verdict.never:
		return time.Time{}
	case g.verdict.state != plugin.Terminated:
		return now.Add(max(g.verdict.retry, retryBeside))
	case !g.sub.freshAt.IsZero():
		return g.sub.comeback(now, g.verdict.retry)
	case !g.sub.refresh.IsZero():
		return g.sub.refresh
	}
	// All of a list's members may come here together.
	return now.Add(time.Duration(random() * float64(len(w.persons)) / paceBeside * float64(time.Second)))
}

// fade lets what an ended leg has said hold but a little longer: else a call that nobody tells
// the end of would hide for an hour what the other leg says.
func (w *watcher) fade(now time.Time, g *leg) {
	if grace := now.Add(graceBeside); g.sub.voice.known && g.sub.voice.until.After(grace) {
		g.sub.voice.until = grace
		w.state(now, g.person)
	}
}

// later has a subscription begin again by itself.
func (w *watcher) later(s *sub, at time.Time) {
	s.later(at)
	w.timers.set(s)
}

// order says which of several legs' states stands for all: the higher.
var order = map[plugin.SubscriptionState]int{plugin.Active: 6, plugin.Requesting: 5, plugin.Terminated: 4,
	plugin.Failed: 3, plugin.AccessDenied: 2, plugin.NotFound: 1}

// verdict is how the watching of a presentity goes, by whatever package.
func (p *person) verdict() verdict {
	var best verdict
	for _, g := range p.legs {
		v := g.verdict
		if best.state == 0 || best.never && !v.never || best.never == v.never && order[v.state] > order[best.state] {
			best = v
		}
	}
	return best
}
