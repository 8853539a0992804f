//go:build !race

package sippublish

import (
	"testing"

	"github.com/busylamp/busylamp"
)

// TestAllocations holds the budget of one PUBLISH with its answer, transaction and socket
// included. Nearly all of it is the answer: the response, its two headers, and the tag that
// is kept.
func TestAllocations(t *testing.T) {
	p := newPublisher(t, echo(t), "udp")
	for name, r := range map[string]busylamp.Request{"initial": initial, "refresh": refresh, "remove": remove} {
		n := testing.AllocsPerRun(200, func() {
			if o := p.Publish(t.Context(), r); o.Result != busylamp.Accepted {
				t.Fatalf("%+v", o)
			}
		})
		if n > 15 {
			t.Errorf("%s: %v allocations, at most 15", name, n)
		}
	}
}
