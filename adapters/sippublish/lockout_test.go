package sippublish

import (
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// TestLockout: refusals of our credentials that come together are one, those that follow
// make the pause longer, and an acceptance ends that.
func TestLockout(t *testing.T) {
	var l lockout
	now := time.Now()
	refused := busylamp.Outcome{Result: busylamp.Refused, Code: 401}
	for _, step := range []struct {
		after time.Duration
		o     busylamp.Outcome
		want  time.Duration
	}{
		{0, refused, 30 * time.Second},
		{time.Second, refused, 29 * time.Second},
		{29 * time.Second, busylamp.Outcome{Result: busylamp.Refused, Code: 407}, time.Minute},
		{time.Minute, refused, 2 * time.Minute},
		{time.Hour, refused, 4 * time.Minute},
		{time.Hour, refused, 8 * time.Minute},
		{time.Hour, refused, 10 * time.Minute},
		{time.Hour, busylamp.Outcome{Result: busylamp.Refused, Code: 403}, 0},
		{time.Hour, refused, 10 * time.Minute},
		{time.Hour, busylamp.Outcome{Result: busylamp.Accepted, Code: 200}, 0},
		{time.Hour, refused, 30 * time.Second},
		{time.Hour, busylamp.Outcome{Result: busylamp.Refused, Code: 401, RetryAfter: time.Hour}, time.Hour},
	} {
		now = now.Add(step.after)
		got := l.settle(step.o, now)
		wrong := step.o.Code == 401 || step.o.Code == 407
		if got.RetryAfter != step.want || (got.Result == busylamp.Unavailable) != wrong {
			t.Errorf("%d %v: %v after %v, want %v", step.o.Code, step.after, got.Result, got.RetryAfter, step.want)
		}
	}
}
