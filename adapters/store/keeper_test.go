package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/busylamp/busylamp"
)

// fakeStore is a store in memory whose Commit takes a while and can fail.
type fakeStore struct {
	mu      sync.Mutex
	takes   time.Duration
	fails   error
	records map[string]busylamp.Record
	commits [][]busylamp.StoreOp
}

func (s *fakeStore) Load(context.Context) ([]busylamp.Record, error) { return nil, nil }

func (s *fakeStore) Commit(ctx context.Context, ops []busylamp.StoreOp) error {
	pause(ctx, s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.fails; err != nil {
		if errors.Is(err, ErrLost) {
			s.fails, s.records = nil, map[string]busylamp.Record{}
		}
		return err
	}
	s.commits = append(s.commits, ops)
	for _, op := range ops {
		if key := string(op.Record.Presentity); op.Delete {
			delete(s.records, key)
		} else {
			s.records[key] = op.Record
		}
	}
	return nil
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

func (s *fakeStore) has() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for i := range 10 {
		if r, ok := s.records[string(presentity(i))]; ok {
			all = append(all, fmt.Sprint(i, "=", r.Tag))
		}
	}
	return strings.Join(all, " ")
}

func presentity(i int) busylamp.Presentity {
	return busylamp.Presentity(fmt.Sprintf("sip:u%d@example.com", i))
}

func put(i int, tag string) busylamp.StoreOp {
	return busylamp.StoreOp{Record: busylamp.Record{Publisher: "p", Presentity: presentity(i), Tag: tag, State: busylamp.OnThePhone,
		Expires: 600 * time.Second, Refresh: 300 * time.Second}}
}

func remove(i int) busylamp.StoreOp {
	op := put(i, "")
	op.Delete = true
	return op
}

// keeping runs a keeper over a fake store in a bubble.
func keeping(t *testing.T, f func(t *testing.T, s *fakeStore, k *Keeper, log *strings.Builder, stop func() error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{takes: 10 * time.Millisecond, records: map[string]busylamp.Record{}}
		var log strings.Builder
		k := NewKeeper(s, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- k.Run(ctx, func(context.Context) ([]busylamp.Record, error) {
				return []busylamp.Record{put(7, "all").Record, put(8, "all").Record}, nil
			})
		}()
		ended := false
		stop := func() error {
			ended = true
			cancel()
			return <-done
		}
		f(t, s, k, &log, stop)
		if !ended {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestKeeper: changes are committed together, only the latest of each publication, and
// their times count from when they were made.
func TestKeeper(t *testing.T) {
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, _ *strings.Builder, _ func() error) {
		k.Keep([]busylamp.StoreOp{put(1, "a")})
		time.Sleep(time.Millisecond) // the first commit is under way
		k.Keep([]busylamp.StoreOp{put(1, "b"), put(2, "x"), put(3, "y")})
		k.Keep([]busylamp.StoreOp{put(1, "c"), remove(2)})
		time.Sleep(50 * time.Millisecond)
		if got := s.has(); got != "1=c 3=y" || len(s.commits) != 2 || len(s.commits[1]) != 3 {
			t.Errorf("has %s after %d commits", got, len(s.commits))
		}
		if got := s.records[string(presentity(1))].Expires; got != 600*time.Second-9*time.Millisecond {
			t.Errorf("expires %v after the commit", got)
		}
		if k.Waiting() != 0 {
			t.Errorf("%d wait", k.Waiting())
		}
	})
}

// TestKeeperFails: a store that fails is tried again, what is newer goes, and it is told
// once that it fails and once that it is well.
func TestKeeperFails(t *testing.T) {
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, log *strings.Builder, _ func() error) {
		s.fail(errors.New("disk full"))
		k.Keep([]busylamp.StoreOp{put(1, "a"), put(2, "a")})
		time.Sleep(time.Minute)
		k.Keep([]busylamp.StoreOp{put(1, "b")})
		if _, err := k.Failing(); err == nil {
			t.Error("not known to fail")
		}
		s.fail(nil)
		time.Sleep(2 * time.Second)
		if got := s.has(); got != "1=b 2=a" {
			t.Errorf("has %s", got)
		}
		if _, err := k.Failing(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "cannot be kept"); n != 1 || strings.Count(log.String(), "kept again") != 1 {
			t.Errorf("told:\n%s", log)
		}
	})
}

// TestKeeperIsBounded: what waits for a store that fails is bounded; when it is well,
// everything is put.
func TestKeeperIsBounded(t *testing.T) {
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, _ *strings.Builder, _ func() error) {
		s.fail(errors.New("disk full"))
		k.Keep([]busylamp.StoreOp{put(1, "a")})
		time.Sleep(time.Second)
		for i := range maxPending + 10 {
			k.Keep([]busylamp.StoreOp{{Record: busylamp.Record{Publisher: "q", Presentity: presentity(i)}, Delete: true}})
		}
		if n := k.Waiting(); n > 100 {
			t.Errorf("%d wait", n)
		}
		s.fail(nil)
		time.Sleep(5 * time.Second)
		if got := s.has(); got != "7=all 8=all" {
			t.Errorf("has %s", got)
		}
	})
}

// TestKeeperLost: a store that began anew gets everything.
func TestKeeperLost(t *testing.T) {
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, _ *strings.Builder, _ func() error) {
		k.Keep([]busylamp.StoreOp{put(1, "a")})
		time.Sleep(time.Second)
		s.fail(fmt.Errorf("store: %w", ErrLost))
		k.Keep([]busylamp.StoreOp{put(8, "newer"), put(2, "b")})
		time.Sleep(5 * time.Second)
		if got := s.has(); got != "2=b 7=all 8=newer" {
			t.Errorf("has %s", got)
		}
	})
}

// TestKeeperFenced: a store that is somebody else's ends it.
func TestKeeperFenced(t *testing.T) {
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, _ *strings.Builder, stop func() error) {
		s.fail(fmt.Errorf("store: %w", busylamp.ErrFenced))
		k.Keep([]busylamp.StoreOp{put(1, "a")})
		time.Sleep(time.Second)
		if err := stop(); !errors.Is(err, busylamp.ErrFenced) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestKeeperEnds: what waits at the end is committed, and a disk that hangs does not hold up
// the end.
func TestKeeperEnds(t *testing.T) {
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, _ *strings.Builder, stop func() error) {
		k.Keep([]busylamp.StoreOp{put(1, "a")})
		if err := stop(); err != nil || s.has() != "1=a" {
			t.Errorf("%v, has %s", err, s.has())
		}
	})
	keeping(t, func(t *testing.T, s *fakeStore, k *Keeper, _ *strings.Builder, stop func() error) {
		s.takes = time.Hour
		k.Keep([]busylamp.StoreOp{put(1, "a")})
		began := time.Now()
		if err := stop(); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > flushTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
