package plugintest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/busylamp/busylamp/plugin"
	"github.com/busylamp/busylamp/plugin/plugintest"
)

// mute says nothing of anybody.
type mute struct{}

func (mute) Describe() plugin.Description {
	return plugin.Description{Name: "mute", Version: "1", Summary: "says nothing"}
}
func (mute) Configure(plugin.Config) error { return nil }
func (mute) Run(ctx context.Context, _ plugin.Host) error {
	<-ctx.Done()
	return nil
}

// recorder is a test that fails without this one's doing so.
type recorder struct {
	testing.TB
	mu      sync.Mutex
	said    string
	cleanup []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.mu.Lock()
	r.said = fmt.Sprintf(format, args...)
	r.mu.Unlock()
	runtime.Goexit()
}

// TestHostFails shows that the harness fails a test whose source says nothing, or something.
func TestHostFails(t *testing.T) {
	defer goleak.VerifyNone(t)
	for want, f := range map[string]func(*plugintest.Host){
		"no claim came within 10ms":        func(h *plugintest.Host) { h.NextClaim() },
		"no subscription came within 10ms": func(h *plugintest.Host) { h.NextSubscription() },
		"no connector came before the source ended": func(h *plugintest.Host) {
			h.Timeout = time.Minute
			_ = h.Stop()
			h.NextConnector()
		},
	} {
		r := &recorder{TB: t}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h := plugintest.Start(r, mute{}, nil)
			h.Timeout = 10 * time.Millisecond
			f(h)
		}()
		<-ended
		for _, f := range r.cleanup {
			f()
		}
		if !strings.Contains(r.said, want) {
			t.Errorf("it said %q, want %q", r.said, want)
		}
	}
}

// TestWithin shows that the suite finds a fault in a source within the test's process.
func TestWithin(t *testing.T) {
	findings := plugintest.Check(t.Context(), plugintest.Options{
		Source: func() plugin.Source { return mute{} }, Answer: 200 * time.Millisecond, Quiet: time.Millisecond,
	})
	checks := map[string]bool{}
	for _, f := range findings {
		checks[f.Check] = true
	}
	if !checks["unknown-key"] || !checks["watch"] && !checks["describe"] || checks["orphan"] {
		t.Errorf("findings: %q", findings)
	}
}
