package kamailiocfg

import (
	"slices"
	"strings"
	"testing"
)

// noHeartbeat leaves all waking to the events themselves: a line that nobody was woken for
// would stay in the queue.
const noHeartbeat = `BUSYLAMP_TIMER_HEARTBEAT="name=busylamp_heartbeat;interval=3600;mode=0;"`

// TestDrain: the queue is emptied by an async worker, or by a timer where one is wanted; many
// workers that add at once and a single event after a pause are all the same.
func TestDrain(t *testing.T) {
	for name, c := range map[string]struct{ define, has, lacks string }{
		"worker":             {"BUSYLAMP_ASYNC", "Async Task Worker", "busylamp_drain"},
		"timer":              {"BUSYLAMP_POLL", "busylamp_drain", "Async Task Worker"},
		"a timer of its own": {`BUSYLAMP_TIMER_DRAIN="name=busylamp_drain;interval=5000u;mode=1;"`, "busylamp_drain", "Async Task Worker"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sample(t, noHeartbeat, c.define)
			if processes := p.kamcmd(t, "core.psx"); !processesHave(processes, c.has) || processesHave(processes, c.lacks) {
				t.Fatalf("want %q and no %q among the processes:\n%s", c.has, c.lacks, processes)
			}
			l := p.listen(t)
			p.answerer(t, "bob")
			p.call(t, "uac.xml", "alice", "bob", briefly, "-m", "400", "-r", "200").wait(t)
			l.until(t, "800 lines", func() bool { return len(l.lines) == 800 })
			p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
			l.until(t, "two lines more", func() bool { return len(l.lines) == 802 })
		})
	}
}

func processesHave(list, name string) bool {
	return strings.Contains(strings.ToLower(list), strings.ToLower(name))
}

// TestHisAsyncTasks: an operator who has async tasks of his own keeps his workers to himself.
func TestHisAsyncTasks(t *testing.T) {
	s := script{modules: slices.Concat(everything, []string{"async", "ctl"}), route: answering,
		params: "async_workers=2\nmodparam(\"ctl\", \"binrpc\", PROXY_CTL)" + evapiHere}
	p := run(t, s.write(t))
	processes := p.kamcmd(t, "core.psx")
	if n := strings.Count(processes, "Async Task Worker"); n != 2 || !processesHave(processes, "busylamp_drain") {
		t.Fatalf("%d async workers, want his 2 and the timer's process:\n%s", n, processes)
	}
	l := p.listen(t)
	p.anyCall(t)
	if lines := l.settled(t, 0); len(lines) != 2 {
		t.Errorf("lines %v, want a call and its end", lines)
	}
}
