package busylamp_test

// seededBugs are the bugs of TestSeededBugs.
var seededBugs = []seededBug{
	{"a late start revives a call that has ended", "call.go",
		`if dropped := p.tombs.add(id, e.now); dropped {`,
		`if dropped := false; dropped {`},
	{"only the end of a known call is remembered", "call.go",
		`if dropped := p.tombs.add(id, e.now); dropped {`,
		`if dropped := p.calls[id] != nil && p.tombs.add(id, e.now); dropped {`},
	{"calls are a flag and not a number", "person.go",
		`who.confirmed += n`,
		`who.confirmed = max(n, 0)`},
	{"a second PUBLISH while one is outstanding", "publish.go",
		`if p.outstanding != 0 {
		return 0, 0 // its outcome will look again`,
		`if false {
		return 0, 0 // its outcome will look again`},
	{"a change while a PUBLISH is outstanding is forgotten", "engine.go",
		`p.settle(e, r, o)
	e.plan(p)`,
		`p.settle(e, r, o)`},
	{"the first entity-tag is kept for good", "publish.go",
		`if o.Tag != "" || r.Kind == Initial {`,
		`if p.tag == "" || r.Kind == Initial {`},
	{"412 is taken for a failure", "publish.go",
		`p.nothing()
		if r.Tag == "" {`,
		`p.unsure = true
		if r.Tag == "" {`},
	{"a removal that fails is not repeated", "publish.go",
		`p.unsure = true
		most := failedMost`,
		`if p.unsure = true; r.Kind == Remove {
			p.nothing()
			return
		}
		most := failedMost`},
	{"people without calls are forgotten with what they have published", "person.go",
		`if p.has != Unknown || p.outstanding != 0`,
		`if p.outstanding != 0`},
	{"the server's least lifetime is not adopted", "publish.go",
		`pub.least = least
`,
		``},
	{"the sentinel is never sent", "sentinel.go",
		`if oldest != nil {`,
		`if false {`},
	{"a list ends calls that began after it was asked for", "resync.go",
		`if c.listed != id && c.applied <= r.asked {`,
		`if c.listed != id {`},
	{"a call whose stage was missed is ended by the list that has it", "resync.go",
		`c.listed = id
			e.drift(`,
		`e.drift(`},
	{"calls that are absent from the list are kept", "resync.go",
		`e.endCall(p, c.dialog, "call absent from the proxy's list")`,
		``},
	{"the details of unknown calls are not asked for", "resync.go",
		`work.Wanted = append(work.Wanted, d)`,
		`if c != nil {
			work.Wanted = append(work.Wanted, d)
		}`},
	{"a doubt while a list is made is forgotten", "resync.go",
		`p.resync.wanted, p.resync.why = true, why`,
		`p.resync.wanted, p.resync.why = !p.resync.running, why`},
	{"the end of a resync that began in another life of the proxy is taken", "resync.go",
		`if r.epoch != p.epoch {`,
		`if false {`},
	{"a proxy's new life clears its calls at once", "engine.go",
		`p.newLife(epoch)
	}`,
		`p.newLife(epoch)
		for _, c := range p.former {
			e.release(p, c, "former life")
		}
		p.former = nil
	}`},
	{"calls of a proxy's former life are never released", "resync.go",
		`e.release(p, c, "call of the proxy's former life")`,
		`_ = c`},
	{"a lost connection clears the proxy's calls", "engine.go",
		`p.connected, p.since = false, e.now
`,
		`p.connected, p.since = false, e.now
		p.newLife(p.epoch)
		for _, c := range p.former {
			e.release(p, c, "disconnected")
		}
		p.former = nil
`},
	{"a life takes nothing over", "takeover.go",
		`if !known || r.Expires`,
		`if known || r.Expires`},
	{"what was taken over is kept after the proxies are compared", "takeover.go",
		`e.claim(who, Claim{Source: sourceTakeover, State: Unknown}, reason{what: "not in a call when taken over"})`,
		`_ = who`},
	{"the store is not told of what a server accepted", "publish.go",
		`p.dirty = true
	e.bookRefresh`,
		`e.bookRefresh`},
	{"a call's stage goes back", "call.go",
		`case ev.Stage < c.stage, ev.Stage == c.stage && !serialAfter(ev.Seq, c.seq):`,
		`case ev.Stage == c.stage && !serialAfter(ev.Seq, c.seq):`},
	{"who was in a call is not counted out when its stage advances", "call.go",
		`caller.leave(before)
	callee.leave(before)
`,
		`_ = before
`},
	{"a refresh is not booked", "publish.go",
		`e.bookRefresh(p, life)`,
		`p.refreshAt = p.expires + time.Hour`},
	{"what was taken over is let go before the proxies are compared", "takeover.go",
		`if p.resync.done == 0 {`,
		`if p.resync.done < 0 {`},
	{"calls in step are released after a while", "resync.go",
		`if r.inStep || e.now-r.doubtAt`,
		`if e.now-r.doubtAt`},
	{"calls that began during a doubt are released with it", "resync.go",
		`return c.since <= since`,
		`return true`},
	{"the claims of a source that is down stay", "grace.go",
		`e.until(who, c, min(c.Until, e.now+max(src.Grace, 1)))`,
		`_ = c`},
	{"a source is asked as often as there is need", "throttle.go",
		`return sum < perSecond && t.sent[t.tick%int64(len(t.sent))] < (perSecond+9)/10`,
		`return sum < 1000*perSecond`},
	{"a source that is down is asked", "statement.go",
		`src.running = false
`,
		`src.running = true
`},
	{"the claims about somebody who is watched no more stay", "subscription.go",
		`e.claim(who, Claim{Source: s.source.Name, State: Unknown}, reason{what: "watched no more"})`,
		``},
	{"the weaker claim wins", "presence.go",
		`rank < best.rank ||`,
		`best.rank > 0 && rank > best.rank ||`},
	{"who waits when a source goes down is asked for no more", "statement.go",
		`s.asked, s.sequence = false, 0 })
	e.beginAll(src)`,
		`s.asked, s.sequence = false, 0 })`},
	{"of two clocks of a person the later is set", "clocks.go",
		`if at > 0 && (next == 0 || at < next) {`,
		`if at > 0 && at > next {`},
}
