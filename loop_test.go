package busylamp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if noSetback != (setback{}) || !reflect.DeepEqual(noExtras, extras{}) {
			fmt.Fprintf(os.Stderr, "FAIL: what all publications and people share that have nothing of it is not empty any more: %+v, %+v\n", noSetback, noExtras)
			code = 1
		}
		os.Exit(code)
	}))
}

// slowPublisher answers after a while and writes down what it was sent.
type slowPublisher struct {
	mu    sync.Mutex
	kinds []Kind
	delay time.Duration
}

func (p *slowPublisher) Publish(ctx context.Context, r Request) Outcome {
	select {
	case <-time.After(p.delay):
	case <-ctx.Done():
		return Outcome{Result: Failed, Reason: ctx.Err().Error()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kinds = append(p.kinds, r.Kind)
	return Outcome{Result: Accepted, Code: 200, Tag: "t", Expires: r.Expires}
}

// fixedProxy has a list that never changes.
type fixedProxy struct{ listing Listing }

func (p fixedProxy) List(context.Context) (Listing, error) {
	if p.listing.Epoch == "" {
		return Listing{}, errors.New("unreachable")
	}
	return p.listing, nil
}

func (p fixedProxy) Details(_ context.Context, wanted []Listed, emit func([]CallEvent)) error {
	for _, d := range wanted {
		emit([]CallEvent{{Dialog: d.Dialog, Stage: d.Stage, Caller: string(userA)}})
	}
	return nil
}

func startLoop(t *testing.T, withdraw time.Duration, p *slowPublisher, proxy Proxy) (*Loop, func()) {
	t.Helper()
	e, err := New(Config{Proxies: []string{"p"}, Directory: testDirectory{}, Publishers: []PublisherConfig{{Name: "s"}}})
	if err != nil {
		t.Fatal(err)
	}
	l := NewLoop(e, LoopConfig{Proxies: []Proxy{proxy}, Publishers: []Publisher{p}, Withdraw: withdraw})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	return l, func() { cancel(); <-done }
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &slowPublisher{delay: 20 * time.Millisecond}
		one := Listing{Epoch: "1", Live: []Listed{{Dialog: DialogID{1, 1}, Stage: Confirmed}}}
		l, stop := startLoop(t, 5*time.Second, p, fixedProxy{one})
		l.Connected(0, "1")
		time.Sleep(time.Second)
		var v View
		if err := l.Do(t.Context(), func(e *Engine) { v, _ = e.View(userA) }); err != nil || v.State != OnThePhone {
			t.Errorf("%v, %v", v.State, err)
		}
		stop() // withdraws
		if !slices.Equal(p.kinds, []Kind{Initial, Remove}) {
			t.Errorf("sent %v", p.kinds)
		}
		l.Calls(0, nil) // after the end: no effect, no hang
		if err := l.Do(t.Context(), func(*Engine) {}); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A publisher that does not answer holds up the end for as long as withdrawing may take.
func TestLoopEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startLoop(t, 5*time.Second, &slowPublisher{delay: time.Hour}, fixedProxy{})
		l.Connected(0, "1")
		l.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: string(userA)}})
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// While the list cannot be had, it is asked for again and again, and nobody is cleared.
func TestLoopKeepsAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startLoop(t, 0, &slowPublisher{}, fixedProxy{})
		defer stop()
		l.Connected(0, "1")
		l.Calls(0, []CallEvent{{Dialog: DialogID{1, 1}, Stage: Confirmed, Caller: string(userA)}})
		time.Sleep(5 * time.Minute)
		l.Do(t.Context(), func(e *Engine) {
			st := e.Stats()
			if v, _ := e.View(userA); v.State != OnThePhone || st.ResyncsFailed < 10 || st.ResyncsFailed > 60 {
				t.Errorf("%v after %d failed resyncs", v.State, st.ResyncsFailed)
			}
		})
	})
}
