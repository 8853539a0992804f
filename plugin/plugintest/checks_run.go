package plugintest

import (
	"context"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/busylamp/busylamp/plugin"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// few is how many of Options.Watch most checks use.
const few = 5

// askFew watches some presentities and waits for the answers. It returns who they are, nil
// if they were not answered, which is a fault.
func (p *probe) askFew(ctx context.Context, s *session) []string {
	names := p.presentities(s)
	names = names[:min(few, len(names))]
	if len(names) == 0 || !p.ask(ctx, s, names, p.Answer) {
		return nil
	}
	return names
}

// ask watches presentities and waits until the source has answered for each.
func (p *probe) ask(ctx context.Context, s *session, names []string, most time.Duration) bool {
	s.mu.Lock()
	before := map[string]int{}
	for _, name := range names {
		before[name] = s.told[name].subscriptions
	}
	s.mu.Unlock()
	if err := s.watch(names...); err != nil {
		p.fault("a watch must be answered: %v", err)
		return false
	}
	if s.about.GetUnasked() {
		return true // it needs no watch, and may say nothing to one
	}
	var silent []string
	if s.wait(ctx, most, func() bool {
		silent = silent[:0]
		for _, name := range names {
			if s.told[name].subscriptions == before[name] {
				silent = append(silent, name)
			}
		}
		return len(silent) == 0
	}) {
		return true
	}
	if err := s.ended(); err != nil {
		p.fault("a watch must be answered: %d of %d were not, and %v", len(silent), len(names), err)
		return false
	}
	p.fault("a watch must be answered by a subscription within %s: %d of %d were not, such as %s",
		most, len(silent), len(names), short(silent[0]))
	return false
}

// checkWatch: the connector is told, each watch is answered, and what must be said is said.
func checkWatch(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		names := p.presentities(s)
		if len(names) == 0 || !p.ask(ctx, s, names, p.Answer) {
			return
		}
		if !s.wait(ctx, p.Answer, func() bool { return s.connector != nil }) {
			p.fault("a source must say by a connector how it stands with its system, within %s", p.Answer)
		}
		for _, w := range p.Watch {
			p.expect(ctx, s, w)
		}
	})
}

// expect waits until the source says of a presentity what it must.
func (p *probe) expect(ctx context.Context, s *session, w Watched) {
	var sub *pluginv1.Subscription
	var claim *pluginv1.Claim
	good := s.wait(ctx, p.Answer, func() bool {
		sub, claim = s.subscriptions[w.Presentity], s.claims[w.Presentity]
		return (w.State == 0 || sub.GetState() == pluginv1.Subscription_State(w.State)) &&
			(w.Availability == plugin.Unknown || claim.GetAvailability() == pluginv1.Availability(w.Availability))
	})
	if !good {
		p.fault("%s must come to %s and %s within %s: it is %s (%q) and %s", short(w.Presentity),
			pluginv1.Subscription_State(w.State), pluginv1.Availability(w.Availability), p.Answer,
			sub.GetState(), sub.GetReason(), claim.GetAvailability())
	}
}

// checkWatchAgain: who is watched already is asked for anew.
func checkWatchAgain(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		names := p.askFew(ctx, s)
		if names == nil {
			return
		}
		for _, w := range p.Watch[:min(few, len(p.Watch))] {
			p.expect(ctx, s, w)
		}
		s.mu.Lock()
		before := map[string]int{}
		for _, name := range names {
			if s.claims[name].GetAvailability() != 0 {
				before[name] = s.told[name].claims
			}
		}
		s.mu.Unlock()
		if !p.ask(ctx, s, names, p.Answer) || s.about.GetUnasked() {
			return
		}
		for name, n := range before {
			if !s.wait(ctx, p.Answer, func() bool { return s.told[name].claims > n }) {
				p.fault("who is watched already must be told of anew when asked for again: %s was not, within %s", short(name), p.Answer)
			}
		}
	})
}

// checkUnwatch: nothing is said of who is watched no more. The judge of claims finds it.
func checkUnwatch(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		names := p.askFew(ctx, s)
		if names == nil {
			return
		}
		if err := s.unwatch(names...); err != nil {
			p.fault("an unwatch must do no harm: %v", err)
			return
		}
		p.listen(ctx, s, settle)
		if p.Trigger != nil {
			p.Trigger()
		}
		p.listen(ctx, s, p.Quiet)
		if err := s.ended(); err != nil {
			p.fault("an unwatch must do no harm: %v", err)
		}
	})
}

// listen lets time pass in which the source may say what it likes.
func (p *probe) listen(ctx context.Context, s *session, d time.Duration) {
	s.wait(ctx, d, func() bool { return false })
}

// checkMany: a thousand presentities at once are answered, and strangers unwatched.
func checkMany(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		names := p.invent(s, 1000)
		if names == nil || !p.ask(ctx, s, names, 6*p.Answer) {
			return
		}
		for _, gone := range [][]string{names[:500], names[:500], {"sip:stranger@plugintest.invalid"}} {
			if err := s.unwatch(gone...); err != nil {
				p.fault("unwatching strangers must do no harm: %v", err)
				return
			}
		}
		p.askFew(ctx, s)
	})
}

// checkOdd: what a source does not know, it ignores.
func checkOdd(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		later := &pluginv1.HostMessage{} // of a later contract
		raw := protowire.AppendTag(nil, 1000, protowire.BytesType)
		later.ProtoReflect().SetUnknown(protowire.AppendString(raw, "later"))
		const mail, far = "mailto:nobody@plugintest.invalid", "sip:far@plugintest.invalid"
		s.mu.Lock()
		s.watched[""], s.watched[mail], s.watched[far] = true, true, true
		s.mu.Unlock()
		for what, m := range map[string]*pluginv1.HostMessage{
			"an empty message":                {},
			"an unknown field":                later,
			"a target without a presentity":   {Watch: []*pluginv1.Target{{}}},
			"an unwatch without a presentity": {Unwatch: []string{""}},
			"a presentity that is not served": {Watch: []*pluginv1.Target{{Presentity: mail}}},
			"an endpoint that there is not":   {Watch: []*pluginv1.Target{{Presentity: far, Endpoint: 4_000_000_000}}},
		} {
			if err := s.send(m); err != nil {
				p.fault("%s must do no harm: %v", what, err)
				return
			}
		}
		p.askFew(ctx, s)
	})
}

// checkOneRun: a second Run beside the first is refused, and does no harm.
func checkOneRun(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		if p.askFew(ctx, s) == nil {
			return
		}
		short, cancel := context.WithTimeout(ctx, p.Answer)
		defer cancel()
		second, err := s.client.Run(short)
		if err == nil {
			_, err = second.Recv()
		}
		if err == nil || status.Code(err) == codes.DeadlineExceeded {
			p.fault("a second Run beside the first must be refused with an error: it goes on")
		}
		p.askFew(ctx, s)
	})
}

// checkEnd: the end of the stream ends the source's work, and its process; and all the time
// nothing but the handshake came to standard output.
func checkEnd(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		if p.askFew(ctx, s) == nil {
			return
		}
		_ = s.stream.CloseSend()
		done := s.done
		if s.proc != nil {
			done = s.proc.exited
		}
		select {
		case <-done:
		case <-time.After(ending):
			p.fault("a source must end within %s of the end of the stream: it lives on", ending)
		}
		if s.proc != nil && s.proc.said() != "" {
			p.fault("nothing must come to standard output after the handshake's line (log to standard error): %q came", s.proc.said())
		}
	})
}

// checkInterrupt: a terminal's Ctrl-C reaches the sources, too; it is the host that ends them.
func checkInterrupt(ctx context.Context, p *probe) {
	p.withSession(ctx, func(s *session) {
		if p.askFew(ctx, s) == nil {
			return
		}
		if err := s.proc.signal(syscall.SIGINT); err != nil {
			p.fault("it must run: %v", err)
			return
		}
		p.listen(ctx, s, 300*time.Millisecond)
		if err := s.ended(); err != nil {
			p.fault("a source must ignore SIGINT: %v", err)
			return
		}
		p.askFew(ctx, s)
	})
}

// checkOrphan: a source ends when its host is killed, even before it runs.
func checkOrphan(ctx context.Context, p *probe) {
	p.withLink(true, func(l *link) {
		if _, err := l.describe(ctx, p.Options); err != nil {
			p.fault("%v", err)
			return
		}
		if err := l.proc.signal(syscall.SIGKILL); err != nil {
			p.fault("it must run: %v", err)
			return
		}
		l.hangUp()
		select {
		case <-l.proc.exited:
		case <-time.After(ending):
			p.fault("a source must end within %s of its host's death by kill -9: it lives on", ending)
		}
	})
}
