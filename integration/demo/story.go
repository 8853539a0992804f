package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// promised is how long a lamp may take to follow a call.
const promised = time.Second

// told is what the summary is about.
type told struct {
	lit   map[string]time.Duration // from the 200 OK
	dark  map[string]time.Duration // from the BYE
	since map[string]time.Time     // when each lamp was lit
	bob   time.Duration            // how long bob's lamp was lit
}

// tell plays the calls, and checks every lamp on the way.
func (c *cast) tell(ctx context.Context) (*told, error) {
	t := &told{lit: make(map[string]time.Duration), dark: make(map[string]time.Duration),
		since: make(map[string]time.Time)}
	if err := c.quiet(ctx, 300*time.Millisecond); err != nil {
		return nil, err
	}
	c.out.head()
	c.out.row(time.Now(), "nobody is in a call")

	first, err := c.call(ctx, "alice", "bob", t, "alice", "bob")
	if err != nil {
		return nil, err
	}
	if err := c.quiet(ctx, 1200*time.Millisecond); err != nil {
		return nil, err
	}
	second, err := c.call(ctx, "carol", "bob", t, "carol")
	if err != nil {
		return nil, err
	}
	c.out.row(time.Now(), "  bob is busy already, now with two calls")
	if err := c.quiet(ctx, 1200*time.Millisecond); err != nil {
		return nil, err
	}
	if err := c.undisturbed(ctx); err != nil {
		return nil, err
	}
	if err := c.hangup(ctx, first, t, "alice"); err != nil {
		return nil, err
	}
	const longer = 1500 * time.Millisecond
	if err := c.quiet(ctx, longer); err != nil {
		return nil, err
	}
	c.out.row(time.Now(), "  bob stays busy: he still talks to carol")
	if err := c.hangup(ctx, second, t, "bob", "carol"); err != nil {
		return nil, err
	}
	if err := c.quiet(ctx, 700*time.Millisecond); err != nil {
		return nil, err
	}
	c.out.row(time.Now(), "nobody is in a call, and nobody's lamp is stuck")
	return t, nil
}

// call places a call, whose lamps must light.
func (c *cast) call(ctx context.Context, from, to string, t *told, lamps ...string) (*stack.Call, error) {
	c.out.row(time.Now(), "%s calls %s: %s's phone rings", from, to, to)
	call, err := c.phones.Call(ctx, from, to)
	if err != nil {
		return nil, err
	}
	c.out.row(call.Answered, "%s answers %s", to, c.out.dim("(200 OK)"))
	return call, c.expect(ctx, call.Answered, busy, "the 200 OK", lamps, func(s stack.Sighting, after time.Duration) {
		t.lit[s.User], t.since[s.User] = after, s.At
	})
}

// hangup ends a call, whose lamps must go dark.
func (c *cast) hangup(ctx context.Context, call *stack.Call, t *told, lamps ...string) error {
	if err := call.Hangup(ctx); err != nil {
		return err
	}
	c.out.row(call.Ended, "%s hangs up %s", call.From, c.out.dim("(BYE)"))
	return c.expect(ctx, call.Ended, free, "the BYE", lamps, func(s stack.Sighting, after time.Duration) {
		t.dark[s.User] = after
		if s.User == "bob" {
			t.bob = s.At.Sub(t.since["bob"])
		}
	})
}

// carol is whom the plugin knows.
const carol = "sip:carol@" + stack.Domain

// undisturbed has a plugin, which does what a file says, say that carol does not want to be
// disturbed: that is stronger than her call, which shows again when it is taken back.
func (c *cast) undisturbed(ctx context.Context) error {
	for _, step := range []struct {
		file, what, of string
		lamp           lamp
	}{
		{carol + " do-not-disturb\n", "carol does not want to be disturbed", "that", dnd},
		{"", "carol may be disturbed again", "that; she still talks to bob", busy},
	} {
		began := time.Now()
		c.out.row(began, "%s %s", step.what, c.out.dim("(the plugin's file)"))
		if err := os.WriteFile(c.desk, []byte(step.file), 0o600); err != nil {
			return err
		}
		none := func(stack.Sighting, time.Duration) {}
		if err := c.expect(ctx, began, step.lamp, step.of, []string{"carol"}, none); err != nil {
			return err
		}
		if err := c.quiet(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

var words = map[lamp]string{busy: "busy", free: "free", dnd: "do-not-disturb"}

// expect waits until just these lamps have changed.
func (c *cast) expect(ctx context.Context, from time.Time, want lamp, of string, lamps []string,
	note func(stack.Sighting, time.Duration)) error {
	missing := make(map[string]bool)
	for _, user := range lamps {
		missing[user] = true
	}
	late := time.After(time.Until(from.Add(promised)))
	for len(missing) > 0 {
		select {
		case s := <-c.watcher.Seen():
			now := lampOf(s)
			if now == c.out.lamps[s.User] {
				continue
			}
			c.out.lamps[s.User] = now
			after := s.At.Sub(from)
			c.out.row(s.At, "  %s turns %s %s after %s", s.User, words[now], c.out.bold(ms(after)), of)
			if !missing[s.User] || now != want {
				return fmt.Errorf("%s turned %s, out of turn", s.User, words[now])
			}
			delete(missing, s.User)
			note(s, after)
		case <-late:
			var names []string
			for user := range missing {
				names = append(names, user)
			}
			return fmt.Errorf("%s did not turn %s within %v after %s", strings.Join(names, " and "), words[want], promised, of)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// quiet waits while no lamp may change.
func (c *cast) quiet(ctx context.Context, d time.Duration) error {
	end := time.After(d)
	for {
		select {
		case s := <-c.watcher.Seen():
			if now := lampOf(s); now != c.out.lamps[s.User] {
				return fmt.Errorf("%s turned %s while no call began or ended", s.User, words[now])
			}
		case <-end:
			if err := c.Err(); err != nil {
				return err
			}
			return c.watcher.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sum closes with the figures, and checks that the presence server was asked no more than
// it had to be.
func (c *cast) sum(ctx context.Context, t *told) error {
	m, err := c.sidecar.Metrics(ctx)
	if err != nil {
		return err
	}
	list := func(times map[string]time.Duration) (text string) {
		for _, user := range users {
			text += fmt.Sprintf("%s %-10s", user, ms(times[user]))
		}
		return text
	}
	c.out.line("")
	c.out.part("200 OK to busy", list(t.lit))
	c.out.part("BYE to free", list(t.dark))
	c.out.part("no flicker", fmt.Sprintf("bob was busy for %.1f s through two calls, without a gap", t.bob.Seconds()))
	first, last := m.Published("initial", "accepted"), m.Published("remove", "accepted")
	const changes = 2
	all := 0
	for name, n := range m {
		if strings.HasPrefix(name, "busylamp_publish_total{") {
			all += int(n)
		}
	}
	c.out.part("no chatter", fmt.Sprintf("%d PUBLISH requests: one to light and one to clear each of %d lamps, %d for do-not-disturb", all, len(users), changes))
	if first != len(users) || last != len(users) || all != first+changes+last {
		return fmt.Errorf("%d PUBLISH requests (%d initial, %d removals), not %d", all, first, last, 2*len(users)+changes)
	}
	c.out.line("")
	c.out.line("%s the lamps were as promised at every moment.", c.out.good("OK:"))
	return nil
}
