package integration

import (
	"testing"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestApplicationEndpoints: an application's presentity is shown by the presence server as
// long as busylamp runs: one as it is configured, one by how many calls it has; and a number
// (tel:) is on the phone by its calls.
func TestApplicationEndpoints(t *testing.T) {
	t.Parallel()
	sc := newScene(t, stack.KamailioOptions{})
	server, err := sc.Presence(sc.ctx, stack.KamailioOptions{})
	check(t, err)
	const number = "+31612345678"
	check(t, sc.phones.Register(sc.ctx, "queue", "carol", "dave", number))
	sc.start(t, stack.SidecarConfig{Server: server.Addr, OnStop: "withdraw", More: "numbers: ['+31612']\nendpoints:\n" +
		"  - {presentity: 'sip:bot@" + stack.Domain + "', state: do-not-disturb}\n" +
		"  - {presentity: 'sip:queue@" + stack.Domain + "', state: calls, busy_at: 2}\n"})
	watcher, err := sc.Watcher(server.Addr, stack.Domain)
	check(t, err)
	check(t, watcher.Watch(sc.ctx, "bot"))
	sc.shows(t, watcher, "bot", "busy; Do not disturb", true)
	check(t, watcher.Watch(sc.ctx, "queue"))
	sc.shows(t, watcher, "queue", "; Available", true)

	call := func(from, to string) *stack.Call {
		c, err := sc.phones.Call(sc.ctx, from, to)
		check(t, err)
		return c
	}
	first := call("carol", "queue")
	sc.shows(t, watcher, "queue", "", false) // one call is not enough
	second := call("dave", "queue")
	sc.shows(t, watcher, "queue", "busy on-the-phone; On the phone", true)
	check(t, first.Hangup(sc.ctx))
	sc.shows(t, watcher, "queue", "; Available", true)
	check(t, second.Hangup(sc.ctx))

	check(t, watcher.Watch(sc.ctx, number))
	third := call("carol", number)
	sc.becomes(t, "tel:"+number, "on-the-phone", "calls", "on-the-phone")
	sc.shows(t, watcher, number, "busy on-the-phone; On the phone", true)
	check(t, third.Hangup(sc.ctx))
	sc.shows(t, watcher, number, "", true)

	sc.sidecar.Stop()
	sc.shows(t, watcher, "bot", "", true)
}
