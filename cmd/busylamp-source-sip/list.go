package main

import (
	"time"

	"github.com/busylamp/busylamp/adapters/rlmi"
	"github.com/busylamp/busylamp/plugin"
)

// group is a resource list (RFC 4662) that serves its members: one subscription for all.
type group struct {
	uri     string
	sub     *sub
	settled bool // it has been answered: who is no member need not wait for it any more
	active  bool
	order   rlmi.Order
	members map[string]*member // by presentity
	fails   int                // in a row
}

// member is a presentity of a list.
type member struct {
	group     *group
	leg       *leg // of who is watched; nil if nobody wants to know
	instances map[string]*instance
}

// instance is one of the list server's own subscriptions to a member, as it tells of it.
type instance struct {
	hearing
	verdict verdict
	heard   bool // there was a document
	stale   bool // the list names it no more, and has not said that it has ended
}

// Times between two attempts at a list that is refused.
const firstList, mostList = 30 * time.Second, 15 * time.Minute

// openGroups subscribes to the lists, for each package that is watched.
func (w *watcher) openGroups(now time.Time) {
	for _, uri := range w.cfg.lists {
		for _, pkg := range w.cfg.packages {
			g := &group{uri: uri, members: map[string]*member{}}
			g.sub = w.newSub(pkg, uri, 0)
			g.sub.list, g.sub.group = true, g
			w.groups = append(w.groups, g)
			w.carry(now, g.sub, g.sub.open(now))
		}
	}
}

// serve has a list look after a leg, if there is one with its presentity as a member. Where
// one is not known yet, the leg waits for it.
func (w *watcher) serve(g *leg) (served, waits bool) {
	if g.person.account != 0 { // lists are the first account's
		return false, false
	}
	for _, l := range w.groups {
		if l.sub.pkg != g.pkg {
			continue
		}
		if m := l.members[g.person.name]; m != nil && l.active && (g.sub == nil || m.speaks()) {
			w.adopt(g, m)
			return true, false
		}
		waits = waits || !l.settled
	}
	return false, waits
}

// adopt lets a member of a list be the leg's, instead of a subscription of its own.
func (w *watcher) adopt(g *leg, m *member) {
	if g.member != m {
		w.release(time.Now(), g)
		g.member, m.leg = m, g
	}
	g.verdict = m.verdict()
}

// speaks returns whether the list has said anything of a member but that he is one. Before, he
// keeps the subscription that he has.
func (m *member) speaks() bool {
	for _, i := range m.instances {
		if i.heard || i.verdict.state != plugin.Active {
			return true
		}
	}
	return false
}

// verdict is how it goes with a member.
func (m *member) verdict() verdict {
	best := verdict{state: plugin.Active, reason: "by the list " + m.group.uri}
	first := true
	for _, i := range m.instances {
		if v := i.verdict; first || order[v.state] > order[best.state] {
			best, first = v, false
		}
	}
	return best
}

// groupTold takes how a list's subscription goes.
func (w *watcher) groupTold(now time.Time, g *group, v verdict) {
	if v.state == plugin.Active {
		g.active, g.fails = true, 0
		return
	}
	if v.state == plugin.Terminated && g.fails == 0 && v.retry <= time.Minute {
		g.fails++ // it was well until now, and is asked again before its members are given up
		w.later(g.sub, g.sub.comeback(now, v.retry))
		return
	}
	w.log.Warn("a list is not served: its members are subscribed to one by one", "list", g.uri, "package", g.sub.pkg.name, "why", v.reason)
	wait := max(v.retry, min(firstList<<min(g.fails, 10), mostList))
	g.fails++
	g.active = false
	g.order = rlmi.Order{}
	w.later(g.sub, now.Add(wait))
	members := g.members
	g.members = map[string]*member{}
	for _, m := range members {
		w.drop(now, m, "the list "+g.uri+" has ended")
	}
	w.settle(now, g)
}

// drop has a member that a list serves no more asked for by the host, at its own pace.
func (w *watcher) drop(now time.Time, m *member, why string) {
	g := m.leg
	if g == nil {
		return
	}
	g.member, m.leg = nil, nil
	g.verdict = verdict{state: plugin.Terminated, reason: why}
	p := g.person
	if p.saying && len(p.voices(now)) == 0 {
		p.saying, p.said = false, stated{} // the host keeps what was said until its end
	} else {
		w.state(now, p)
	}
	w.report(now, p)
}

// settle lets those who have waited for a list go on: it is known whom it serves. The host asks
// for the others again at its own pace, and then each is subscribed to by itself: there may be
// thousands.
func (w *watcher) settle(now time.Time, g *group) {
	if g.settled {
		return
	}
	g.settled = true
	for _, p := range w.persons {
		for _, l := range p.legs {
			if l.pkg != g.sub.pkg || l.member != nil || l.sub != nil || l.verdict.state != plugin.Requesting {
				continue
			}
			served, waits := w.serve(l)
			if waits {
				continue
			}
			if !served {
				l.verdict = verdict{state: plugin.Terminated, reason: "no member of a list"}
			}
			w.report(now, p)
			w.state(now, p)
		}
	}
}

// noList takes that a list's server has accepted the subscription and sends no list, as
// Kamailio's presence server does for any URI. What a list has said before holds until its end.
func (w *watcher) noList(now time.Time, g *group) {
	if !g.settled {
		w.log.Warn("a list's server sends no list: is it one, and is RFC 4662 supported? Its members are subscribed to one by one", "list", g.uri, "package", g.sub.pkg.name)
	}
	for _, m := range g.members {
		m.fall()
	}
	w.settle(now, g)
}

// fall takes that a list has nothing to say of a member: what it has said before holds until
// its end, and is not prolonged.
func (m *member) fall() {
	for id, i := range m.instances {
		if i.stale = true; !i.voice.known {
			delete(m.instances, id)
		}
	}
}

// listed takes what a list's server tells of its members.
func (w *watcher) listed(now time.Time, g *group, d document) {
	if d.kind != ofList {
		w.noList(now, g)
		w.groupLasts(now, g)
		return
	}
	if err := g.order.Next(d.list); err != nil {
		w.log.Info("a list's partial state cannot be used: asked for the full one", "list", g.uri, "why", err)
		w.carry(now, g.sub, g.sub.renew(now, false))
		return
	}
	here, gap := map[string]bool{}, false
	for _, r := range d.list.Resources {
		name := w.cfg.accounts[0].canonical(r.URI)
		here[name] = true
		gap = w.resource(now, g, name, r, d) || gap
	}
	if d.list.Full {
		for name, m := range g.members {
			if !here[name] {
				delete(g.members, name)
				w.drop(now, m, "it is no member of the list "+g.uri+" any more")
			}
		}
	}
	w.groupLasts(now, g)
	w.settle(now, g)
	if gap {
		w.carry(now, g.sub, g.sub.renew(now, false))
	}
}

// resource takes what a list says of one member, and returns whether something was missed.
// Instances that it names no more have gone, unless it names none: Kamailio's answers each fresh
// SUBSCRIBE like that, and tells of them later.
func (w *watcher) resource(now time.Time, g *group, name string, r rlmi.Resource, d document) (gap bool) {
	m := g.members[name]
	if m == nil {
		m = &member{group: g}
		g.members[name] = m
	}
	if len(r.Instances) == 0 {
		m.fall()
		w.updated(now, m, name)
		return false
	}
	old := m.instances
	m.instances = make(map[string]*instance, len(r.Instances))
	for _, ri := range r.Instances {
		i := old[ri.ID]
		if i == nil {
			i = &instance{}
		}
		m.instances[ri.ID] = i
		i.voice.until, i.stale = g.sub.expiry, false
		i.verdict = instanceVerdict(ri, g.uri)
		if part, ok := d.parts[ri.CID]; ok && part.kind == g.sub.pkg.kind {
			i.heard = true
			gap = i.take(part, w.cfg.own, now) != nil || gap
		}
		if i.verdict.state != plugin.Active {
			i.hearing = hearing{}
		}
	}
	w.updated(now, m, name)
	return gap
}

// updated tells the host of a member that is watched. One that has been subscribed to by
// itself is the list's from now on.
func (w *watcher) updated(now time.Time, m *member, name string) {
	p := w.persons[name]
	if p == nil || p.account != 0 {
		return
	}
	for _, l := range p.legs {
		if l.pkg != m.group.sub.pkg || l.member != nil && l.member.group != m.group || l.sub != nil && !m.speaks() {
			continue
		}
		w.adopt(l, m)
		w.report(now, p)
		w.state(now, p)
	}
}

// instanceVerdict is how it goes with a list server's subscription (RFC 4662 section 5.5).
func instanceVerdict(i rlmi.Instance, list string) verdict {
	v := verdict{state: plugin.Active, reason: "by the list " + list}
	switch {
	case i.State == rlmi.Pending:
		v.reason += ": pending"
	case i.State != rlmi.Terminated:
	case i.Reason == "rejected":
		v = verdict{state: plugin.AccessDenied, reason: "the list's server has been rejected"}
	case i.Reason == "noresource":
		v = verdict{state: plugin.NotFound, reason: "the list's server finds no such resource"}
	default:
		v = verdict{state: plugin.Failed, reason: "the list's server has no subscription: " + cut(i.Reason)}
	}
	return v
}

// groupLasts lets what a list has said hold as long as its subscription does, looks again at
// what has changed by itself, and settles when that is due next.
func (w *watcher) groupLasts(now time.Time, g *group) {
	if g.sub.bare {
		g.sub.bare = false
		w.noList(now, g)
	}
	var review time.Time
	for _, m := range g.members {
		moved := false
		for _, i := range m.instances {
			moved = i.lasts(now, g.sub.expiry) || moved
			review = earlier(review, i.review)
			if i.stale {
				review = earlier(review, i.outlasts())
			}
		}
		if moved && m.leg != nil {
			w.state(now, m.leg.person)
		}
	}
	g.sub.review = review
	w.timers.set(g.sub)
}

// lasts has an instance hold until its list's subscription ends, if the list still names it,
// and returns whether what it says has changed.
func (i *instance) lasts(now, until time.Time) (moved bool) {
	switch {
	case !i.stale:
		moved = i.voice.known && !i.voice.until.Equal(until)
		i.voice.until = until
	case i.voice.known && !now.Before(i.outlasts()):
		i.hearing = hearing{}
		return true
	}
	if !i.review.IsZero() && !now.Before(i.review) {
		i.reconsider(now)
		moved = true
	}
	return moved
}
