package main

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/busylamp/busylamp/plugin"
)

// Limits of what is under way at a time.
const (
	maxInFlight = 256                    // SUBSCRIBEs without an answer
	maxForks    = 8                      // of one SUBSCRIBE, those beside the first
	goodbye     = 2 * time.Second        // for telling all notifiers that we go
	lastWords   = 300 * time.Millisecond // for their last NOTIFYs, when all have been told
	lookEvery   = time.Second            // at how the servers stand
)

// watcher owns all subscriptions. Its loop is the one goroutine that touches them; the network
// is left to others, which bring what they hear by its channels.
type watcher struct {
	cfg   *config
	out   *outbox
	log   *slog.Logger
	lines []*line // by account

	persons map[string]*person
	groups  []*group
	dialogs map[string][]*sub // by Call-ID: one, and its forks; others look at its keys by knows
	mu      sync.RWMutex      // of changes of dialogs
	timers  timers
	queue   []*sub // whose SUBSCRIBE waits for its turn
	flying  int

	answers  chan answered
	notifies chan delivery
	probes   chan probed
	lost     chan netip.AddrPort // addresses of ours that notifiers reach us by no more
	ended    chan struct{}       // closed when nobody reads those
	told     plugin.Connector

	life    context.Context // of all that speaks to the network
	endLife context.CancelFunc
}

// answered is what became of a subscription's SUBSCRIBE.
type answered struct {
	sub *sub
	answer
	fresh bool // the SUBSCRIBE was to begin a dialog
}

// delivery is a NOTIFY and the way back for what it is answered.
type delivery struct {
	*notification
	reply chan reply // has room
}

func newWatcher(cfg *config, out *outbox, log *slog.Logger) *watcher {
	w := &watcher{cfg: cfg, out: out, log: log, persons: map[string]*person{}, dialogs: map[string][]*sub{},
		answers: make(chan answered, maxInFlight), notifies: make(chan delivery), probes: make(chan probed),
		lost: make(chan netip.AddrPort, 16), ended: make(chan struct{})}
	w.life, w.endLife = context.WithCancel(context.Background())
	return w
}

// run works until ctx ends or the host asks no more, and then ends the subscriptions.
func (w *watcher) run(ctx context.Context, requests <-chan plugin.Request) error {
	defer w.hangUp()
	if err := w.dial(); err != nil {
		return err
	}
	for _, l := range w.lines {
		l.busy.Go(func() { l.probe(w) })
	}
	w.openGroups(time.Now())
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		w.launch(time.Now())
		alarm.Reset(w.timers.wait(time.Now(), time.Hour))
		select {
		case r, ok := <-requests:
			if !ok {
				w.farewell()
				return nil
			}
			w.requested(time.Now(), r)
		case a := <-w.answers:
			w.answer(time.Now(), a)
		case d := <-w.notifies:
			w.notified(time.Now(), d)
		case p := <-w.probes:
			w.probed(time.Now(), p)
		case local := <-w.lost:
			w.reach(time.Now(), atOnce, func(s *sub) bool { return s.dialog.local == local })
		case <-alarm.C:
			w.tick(time.Now())
		case <-look.C:
			w.look(time.Now())
		case <-ctx.Done():
			w.farewell()
			return nil
		}
	}
}

// maxTicks bounds what is done for the clock before others have their turn.
const maxTicks = 256

func (w *watcher) tick(now time.Time) {
	for range maxTicks {
		s := w.timers.next(now)
		if s == nil {
			return
		}
		w.carry(now, s, s.tick(now))
	}
}

// carry does what a subscription wants to be done.
func (w *watcher) carry(now time.Time, s *sub, st step) {
	if st.old != nil {
		w.index(st.old)
		w.carry(now, st.old, st.old.sending(step{}))
	}
	switch {
	case s.gone: // an answer came after the end
		return
	case st.over:
		w.forget(s)
		return
	}
	w.index(s)
	if st.send {
		w.queue = append(w.queue, s)
	}
	w.timers.set(s)
	if st.told.state != 0 && !s.fork {
		switch {
		case s.group != nil:
			w.groupTold(now, s.group, st.told)
		case s.leg != nil:
			w.legTold(now, s.leg, st.told)
		}
	}
	if st.voice && s.leg != nil {
		w.state(now, s.leg.person)
	}
	if st.voice && s.group != nil {
		w.groupLasts(now, s.group)
	}
}

// index keeps where a dialog's NOTIFYs find their subscription. A new dialog leaves its
// former one's forks behind.
func (w *watcher) index(s *sub) {
	if s.indexed == s.dialog.callID {
		return
	}
	w.unindex(s)
	s.indexed = s.dialog.callID
	w.mu.Lock()
	w.dialogs[s.indexed] = append(w.dialogs[s.indexed], s)
	w.mu.Unlock()
	if s.leg != nil && s.leg.sub == s {
		w.endForks(s.leg)
	}
}

func (w *watcher) unindex(s *sub) {
	if s.indexed == "" {
		return
	}
	subs := w.dialogs[s.indexed]
	for i := range subs {
		if subs[i] == s {
			subs = append(subs[:i:i], subs[i+1:]...)
			break
		}
	}
	w.mu.Lock()
	if len(subs) == 0 {
		delete(w.dialogs, s.indexed)
	} else {
		w.dialogs[s.indexed] = subs
	}
	w.mu.Unlock()
	s.indexed = ""
}

// knows returns whether a Call-ID is one of ours. Anybody may ask.
func (w *watcher) knows(callID string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return len(w.dialogs[callID]) > 0
}

// forget drops a subscription that is over.
func (w *watcher) forget(s *sub) {
	s.gone = true
	w.timers.set(s)
	w.unindex(s)
	if s.fork && s.leg != nil {
		s.leg.dropFork(s)
		w.state(time.Now(), s.leg.person)
	}
}

// launch sends what waits for its turn.
func (w *watcher) launch(now time.Time) {
	for len(w.queue) > 0 && w.flying < maxInFlight {
		s := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		if s.skip() {
			w.forget(s)
			continue
		}
		l := w.lines[s.account]
		w.flying++
		out := s.next(now)
		w.timers.set(s)
		l.busy.Go(func() {
			a := answered{s, l.subscribe(out), out.remote == ""}
			select {
			case w.answers <- a:
			case <-w.ended:
			}
		})
	}
}

// answer takes what became of a SUBSCRIBE.
func (w *watcher) answer(now time.Time, a answered) {
	w.flying--
	w.lines[a.sub.account].hear(now, a.answer, a.fresh)
	w.carry(now, a.sub, a.sub.answered(now, a.answer))
}

// notified finds a NOTIFY's subscription (RFC 6665 section 4.1.3), and takes it.
func (w *watcher) notified(now time.Time, d delivery) {
	s := w.find(d.notification)
	if s == nil {
		d.reply <- replyNoDialog
		return
	}
	r, st := s.notified(now, d.notification)
	d.reply <- r
	apply := st.apply
	if apply && s.group == nil && s.leg != nil {
		if err := s.take(d.document, w.cfg.own, now); err != nil {
			w.log.Info("a notifier's partial state cannot be used: asked for the full one", "presentity", s.uri, "why", err)
			again := s.renew(now, false)
			st.send, st.old = st.send || again.send, again.old
		}
	}
	if d.bad != nil && r.code == 400 {
		w.log.Warn("the body of a NOTIFY cannot be read", "presentity", s.uri, "error", d.bad)
	}
	w.carry(now, s, st)
	if apply && s.group != nil {
		w.listed(now, s.group, d.document)
	}
}

// find returns whom a NOTIFY is for, nil for nobody: by its Call-ID and both tags, or where
// nobody has answered yet, by its Call-ID and ours. What comes from another fork is a
// subscription of its own for dialogs; for presence the first one is all there is (RFC 3856
// section 6.9).
func (w *watcher) find(n *notification) *sub {
	var open, first *sub
	subs := w.dialogs[n.callID]
	for _, s := range subs {
		switch {
		case s.dialog.tag != n.toTag:
		case s.dialog.heard && s.dialog.remote == n.fromTag:
			return s
		case !s.dialog.heard:
			open = s
		case !s.fork:
			first = s
		}
	}
	if open != nil {
		return open
	}
	if first == nil || first.pkg != dialogs || n.pkg != dialogs || first.leg == nil || first.phase != active ||
		n.state == "terminated" || len(first.leg.forks) >= maxForks {
		return nil
	}
	s := first.forked()
	s.leg.forks = append(s.leg.forks, s)
	w.index(s)
	return s
}

// How soon subscriptions follow each other that are refreshed out of turn: where our Contact has
// gone, nothing is heard until then; a server that is back has enough to do, for the host asks
// for everybody anew as well, and what it has forgotten is noticed in its turn otherwise.
const (
	atOnce = time.Second / 100
	calmly = time.Second / 15
)

// reach has subscriptions refreshed soon, one after each time.
func (w *watcher) reach(now time.Time, each time.Duration, which func(*sub) bool) {
	n := time.Duration(0)
	for _, subs := range w.dialogs {
		for _, s := range subs {
			if s.phase == active && which(s) {
				n++
				s.soon(now.Add(n * each))
				w.timers.set(s)
			}
		}
	}
}

// farewell ends all subscriptions, as far as the time allows.
func (w *watcher) farewell() {
	w.out.stop()
	now := time.Now()
	w.queue = nil
	for _, subs := range w.dialogs {
		for _, s := range append([]*sub(nil), subs...) {
			if s.phase == idle || s.phase == kept {
				continue
			}
			s.leg, s.group, s.again = nil, nil, false
			w.carry(now, s, s.close())
		}
	}
	late, last := time.NewTimer(goodbye), false
	defer late.Stop()
	for len(w.dialogs) > 0 {
		w.launch(time.Now())
		if !last && w.flying == 0 && len(w.queue) == 0 {
			last = true
			late.Reset(lastWords)
		}
		select {
		case a := <-w.answers:
			w.answer(time.Now(), a)
		case d := <-w.notifies:
			w.notified(time.Now(), d)
		case <-w.probes:
		case <-w.lost:
		case <-late.C:
			return
		}
	}
}
