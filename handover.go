package busylamp

import "time"

// Handover is what an engine knows by its sources, for the next one to begin with when the
// configuration changes. Times are from then on.
type Handover struct {
	sources map[string]handedSource
	claims  []handedClaim
}

type handedSource struct {
	running   bool
	info      SourceInfo
	connector ConnectorState
	reason    string
	subs      []handedSubscription
	recent    [11]int // see throttle
}

type handedSubscription struct {
	uri  Presentity
	copy subscription
}

type handedClaim struct {
	uri   Presentity
	claim Claim
}

// Handover returns what is known by sources at a time, which is not before the engine's own.
func (e *Engine) Handover(now time.Duration) Handover {
	h := Handover{sources: make(map[string]handedSource)}
	for _, src := range e.sources {
		h.sources[src.Name] = handedSource{running: src.running, info: src.info, connector: src.connector, reason: src.reason, recent: src.throttle.recent(now)}
	}
	for _, who := range e.people {
		for _, c := range who.claims {
			if c.from != nil && c.Until > now {
				c.Since, c.Until, c.own = c.Since-now, c.Until-now, c.own-now
				h.claims = append(h.claims, handedClaim{who.uri, c})
			}
		}
		for _, s := range who.subs {
			if src := h.sources[s.source.Name]; src.running {
				c := *s
				c.since, c.notBefore = c.since-now, c.notBefore-now
				src.subs = append(src.subs, handedSubscription{who.uri, c})
				h.sources[s.source.Name] = src
			}
		}
	}
	return h
}

// Inherit begins with what an earlier engine knew, after [Engine.TakeOver] and once it is
// known whom to [Engine.Watch]. The sources named in kept have gone on running, with all that
// they watch; the claims of the others stand for their grace.
func (e *Engine) Inherit(h Handover, kept map[string]bool) {
	byName := make(map[string]*source, len(e.sources))
	for _, src := range e.sources {
		byName[src.Name] = src
		from, known := h.sources[src.Name]
		if known {
			src.throttle.resume(from.recent, e.now)
		}
		if from.running && kept[src.Name] {
			e.continueSource(src, from)
		}
	}
	for _, handed := range h.claims {
		src := byName[handed.claim.Source]
		if src == nil {
			continue
		}
		who := e.person(handed.uri)
		if unasked := who.hears(src) && h.sources[src.Name].info.Unasked; !unasked && who.subscriptionTo(src) == nil {
			e.forgetIdle(who)
			continue
		}
		c := handed.claim
		c.Since, c.Until, c.own, c.from, c.judgeAt = e.now+c.Since, e.now+c.Until, e.now+c.own, src, 0
		if c.lost > 0 {
			c.lost = max(e.now, 1)
		}
		if c.echo {
			c.judgeAt = e.now + echoTime
		}
		e.claim(who, c, reason{what: "source " + src.Name})
		if !src.running {
			e.graceFor(who, src)
		}
	}
	e.dispatch()
}

// continueSource goes on with a source that runs. What it watches for nobody any more is ended.
func (e *Engine) continueSource(src *source, from handedSource) {
	src.running = true
	src.info, src.connector, src.reason = from.info, from.connector, from.reason
	known := make(map[*subscription]bool, len(from.subs))
	for i := range from.subs {
		old := &from.subs[i]
		var s *subscription
		if who := e.byURI[old.uri]; who != nil {
			s = who.subscriptionTo(src)
		}
		switch {
		case s != nil:
			known[s] = true
			s.resume(e, &old.copy)
		case old.copy.asked:
			e.out.Watches = append(e.out.Watches, WatchWork{Source: src.index, Unwatch: []Presentity{old.uri}})
		}
	}
	e.eachSubscription(src, func(s *subscription) {
		if !known[s] {
			s.begin(e)
		}
	})
}

// resume goes on with a subscription of an earlier engine.
func (s *subscription) resume(e *Engine, old *subscription) {
	s.tell(old.told)
	s.failures, s.short, s.endpoint, s.gaveUp, s.asked, s.sequence = old.failures, old.short, old.endpoint, old.gaveUp, old.asked, old.sequence
	s.state, s.reason, s.since = old.state, old.reason, e.now+old.since
	switch most := s.source.MaxFailures; {
	case old.gaveUp && (most == 0 || int(old.failures) <= most): // it may be tried more often now
		s.begin(e)
	case old.waits:
		s.queue(e, old.reason)
	case old.state == Requesting:
		s.clock(e, e.now+askTime)
	case old.state != Subscribed && old.state != NotRequested && !old.gaveUp:
		s.notBefore = e.now + max(old.notBefore, 0)
		s.clock(e, s.notBefore)
	}
}
