package kamailio

import (
	"context"
	"fmt"
	"time"
)

// session is what is known over one connection. But for the inbox and failure, it belongs to
// whomever the inbox lets run.
type session struct {
	*Events
	inbox   *inbox
	failure chan struct{} // closes when failed is set
	failed  error         // why nothing more is taken
	decoder decoder
	epoch   string
	seq     sequence
	dropped uint64    // as many are known
	checked time.Time // when check ran last
	counted time.Time // when it looked for missing events last
}

func newSession(k *Events) *session {
	s := &session{Events: k, failure: make(chan struct{}), dropped: k.Count.Dropped.Load(), checked: time.Now(), counted: time.Now()}
	s.inbox = newInbox(s.batch)
	return s
}

// serve waits for the end of a connection, and returns its reason.
func (s *session) serve(ctx context.Context, g *guard) error {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-check.C:
			s.inbox.between(func() { s.check(time.Now(), len(g.inside) == 0) })
		case <-s.failure:
			return nil // it is told when nobody else runs
		case <-g.done:
			return g.err
		}
	}
}

// take is kamevapi's handler.
func (s *session) take(payload []byte) {
	if !s.inbox.put(payload) {
		s.Count.Dropped.Add(1)
	}
}

// batch takes frames and hands their events on as one message. A frame that cannot be
// believed ends the connection.
func (s *session) batch(payloads [][]byte) {
	if s.failed != nil {
		return
	}
	now := time.Now()
	d, late, bad := &s.decoder, false, 0
	d.begin(payloads)
	for _, payload := range payloads {
		before := len(d.events)
		f, err := s.frame(payload)
		if err != nil {
			d.events = d.events[:before] // it may be of another life
			s.failed = err
			close(s.failure)
			break
		}
		bad += f.bad
		for i := range d.events[before:] {
			late = s.seq.arrived(d.events[before+i].Seq) || late
		}
		if f.heartbeat {
			s.heartbeat(f, now)
		}
	}
	if len(d.events) > 0 {
		s.Count.Lines.Add(uint64(len(d.events)))
		s.sink.Calls(s.cfg.Index, d.events)
	}
	if bad > 0 { // after the events that came with them: the list is to be asked for later than those
		s.sink.Doubt(s.cfg.Index, "unreadable event")
	}
	if late {
		// The resync for what was written off was asked before this event was known, so it
		// says nothing about this call: its end may be among what was lost.
		s.sink.Doubt(s.cfg.Index, "an event came after it was given up")
	}
	if now.Sub(s.checked) >= checkEvery { // or a flood would put it off
		s.check(now, false)
	}
}

// frame decodes one frame.
func (s *session) frame(payload []byte) (frame, error) {
	s.Count.Frames.Add(1)
	f, err := s.decoder.frame(payload, s.epoch)
	if err != nil {
		s.Count.BadFrames.Add(1)
		return f, err
	}
	switch s.epoch {
	case f.epoch:
	case "":
		s.epoch = f.epoch
		s.cfg.Log.Info("connected to the proxy", "proxy", s.cfg.Name, "epoch", f.epoch)
		s.sink.Connected(s.cfg.Index, f.epoch)
	default:
		// One connection is to one life of one proxy.
		return f, fmt.Errorf("the epoch changed from %s to %s within a connection", s.epoch, f.epoch)
	}
	if f.bad > 0 {
		s.Count.BadLines.Add(uint64(f.bad))
		s.cfg.Log.Warn("lines of a frame could not be read", "proxy", s.cfg.Name, "lines", f.bad, "error", f.err)
	}
	return f, nil
}

func (s *session) heartbeat(f frame, now time.Time) {
	if s.seq.started {
		s.seq.given(f.given)
		return
	}
	s.seq.start(f.given, now)
	if s.cfg.Early && !f.early {
		s.cfg.Log.Warn("early: publish needs #!define BUSYLAMP_EARLY in the proxy's configuration; only answered calls are seen",
			"proxy", s.cfg.Name)
	}
}

// checkEvery is how often it is looked whether events are missing, and checkLeast how often
// at least, in a flood that has no end.
const (
	checkEvery = reorderWindow / 4
	checkLeast = 3 * reorderWindow
)

// check looks for events that did not come. Unless all that came is here, what seems to be
// missing may be waiting nearby.
func (s *session) check(now time.Time, all bool) {
	s.checked = now
	if n := s.Count.Dropped.Load(); n > s.dropped {
		s.dropped = n
		s.sink.Doubt(s.cfg.Index, "events dropped: the engine was too slow")
	}
	if !all && now.Sub(s.counted) < checkLeast {
		return
	}
	s.counted = now
	if n := s.seq.lost(now); n > 0 {
		s.Count.Lost.Add(uint64(n))
		s.cfg.Log.Warn("events lost between the proxy and us; asking for the truth", "proxy", s.cfg.Name, "events", n)
		s.sink.Doubt(s.cfg.Index, "events lost")
	}
}
