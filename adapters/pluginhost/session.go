package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/busylamp/busylamp"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// stream is Run's, from the host's side.
type stream = grpc.BidiStreamingClient[pluginv1.HostMessage, pluginv1.SourceMessage]

// session is one Run of a process, which has no other.
type session struct {
	process *process
	log     *slog.Logger
	report  func(context.Context, busylamp.SourceReport) // waits while nobody listens
	ignored *atomic.Uint64

	queue   *queue
	granted atomic.Int64 // presentities that were asked for and are not in the bucket yet
	ctx     context.Context
	fail    context.CancelCauseFunc
	over    chan struct{} // closed by stop
	stop    func()        // ends the session in peace
}

var errStopped = errors.New("stopped")

func newSession(p *process, log *slog.Logger, ignored *atomic.Uint64, report func(context.Context, busylamp.SourceReport)) *session {
	s := &session{process: p, log: log, report: report, ignored: ignored, queue: newQueue(), over: make(chan struct{})}
	s.ctx, s.fail = context.WithCancelCause(context.Background())
	s.stop = sync.OnceFunc(func() { close(s.over) })
	return s
}

// Watch is part of busylamp.Source.
func (s *session) Watch(w busylamp.WatchWork) {
	if !s.queue.put(w) {
		s.fail(fmt.Errorf("it does not take what it is asked: %d presentities wait", maxWaiting))
	}
}

// run reports what the process says until it fails, which run returns, or stop is called.
// The process is gone then.
func (s *session) run() error {
	ctx := s.ctx
	defer s.fail(nil)
	st, err := s.process.source.Run(ctx)
	if err != nil {
		err = s.process.explain(err)
		s.process.end(0)
		return err
	}
	var workers sync.WaitGroup
	heard := make(chan struct{}) // closed when the process has nothing more to say
	workers.Go(func() {
		defer close(heard)
		info := s.process.info()
		s.report(ctx, busylamp.SourceReport{Up: &info})
		if err := s.read(ctx, st); ctx.Err() == nil && !s.stopped() {
			s.fail(s.process.explain(err))
		}
	})
	workers.Go(func() { s.write(ctx, st) })
	workers.Go(func() { s.ping(ctx) })
	select {
	case <-s.over:
		s.farewell(heard)
	case <-s.process.runner.exited:
		s.fail(s.process.explain(io.EOF))
	case <-ctx.Done():
	}
	s.fail(errStopped)
	s.queue.close()
	s.process.end(0)
	workers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

func (s *session) stopped() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// farewell ends the stream, and with it what the source does; a good one says goodbye to its
// system then.
func (s *session) farewell(heard <-chan struct{}) {
	limit := time.Now().Add(s.process.timing.end)
	s.queue.close()
	late := time.NewTimer(s.process.timing.end)
	defer late.Stop()
	select {
	case <-heard:
		s.process.end(time.Until(limit))
	case <-late.C:
	}
}

// write asks the plugin what is queued, and ends the stream with the queue.
func (s *session) write(ctx context.Context, st stream) {
	for {
		m, asked, closed := s.queue.take()
		if closed {
			_ = st.CloseSend()
			return
		}
		if m == nil {
			select {
			case <-s.queue.some:
			case <-ctx.Done():
				return
			}
			continue
		}
		s.granted.Add(int64(asked))
		if st.Send(m) != nil {
			return // read knows why
		}
	}
}

// read reports what comes in until the stream ends, and returns why it does.
//
// Above the rate it reads more slowly, and gRPC's flow control holds the plugin up. That
// alone may be a big system's first answer; a plugin that goes on so for long is broken. The
// same goes for changes of the connector, at a rate of their own.
func (s *session) read(ctx context.Context, st stream) error {
	t := s.process.timing
	b, changes := newBucket(t.rate, t.burst, time.Now()), newFlips(t, time.Now())
	translate := translator{speaksFor: s.process.speaksFor, ignored: s.ignored,
		warn: func(why string) {
			s.log.Warn("the plugin says what cannot be taken; the like of it is only counted", "what", why)
		}}
	for {
		m, err := st.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("it ended its stream while it was wanted")
		case status.Code(err) == codes.ResourceExhausted:
			return fmt.Errorf("a message over %d bytes: it has to be divided", maxMessage)
		case err != nil:
			return err
		}
		now := time.Now()
		b.grant(2 * float64(s.granted.Swap(0))) // an answer to what was asked is no flood
		delay := b.take(float64(max(1, len(m.GetClaims())+len(m.GetSubscriptions()))), now)
		if b.wanting(now) > t.flood {
			return fmt.Errorf("a flood: more than %.0f claims a second for %v", t.rate, t.flood)
		}
		if s.stopped() {
			continue // a source may take its claims back at its end, which is not the truth's
		}
		reports := translate.reports(m, now)
		wait, flood := changes.take(reports, now, t.flood)
		if flood {
			return fmt.Errorf("a flood: more than %.0f change of the connector a second for %v", t.flips, t.flood)
		}
		for _, r := range reports {
			s.report(ctx, r)
		}
		changes.away += time.Since(now)
		if !sleep(ctx, max(delay, wait)) {
			return ctx.Err()
		}
	}
}

// ping finds out whether the process is hung: stopped, swapped out for good, in a deadlock.
func (s *session) ping(ctx context.Context) {
	t := s.process.timing
	for missed := 0; sleep(ctx, t.ping); {
		c, cancel := context.WithTimeout(ctx, t.ping)
		err := s.process.ping(c)
		cancel()
		if err == nil {
			missed = 0
		} else if missed++; missed == t.misses && ctx.Err() == nil {
			s.fail(fmt.Errorf("it hangs: %d pings in a row were not answered within %v", missed, t.ping))
			return
		}
	}
}

// sleep waits. It returns false when ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
