package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// TestFortyCallsTwoPublishesEach: sipp places 40 calls, and the server gets two requests
// for each of the 80 users, not one more: an initial one and a removal.
func TestFortyCallsTwoPublishesEach(t *testing.T) {
	for _, profile := range []string{"rpid", "audiocodes"} {
		t.Run(profile, func(t *testing.T) {
			sc := newScene(t, stack.KamailioOptions{})
			sc.start(t, stack.SidecarConfig{Profile: profile})
			sc.sipp(t, 40, 20, 1500*time.Millisecond)
			took := sc.agrees(t, 10*time.Second)
			users := stack.ByUser(sc.recorder.All())
			if len(users) != 80 {
				t.Errorf("%d users were published, not 80", len(users))
			}
			for user, got := range users {
				if err := twoPublishes(got); err != nil {
					t.Errorf("%s: %v", user, err)
				}
			}
			requests, repeats := sc.recorder.Count()
			t.Logf("40 calls, %d users, %d requests, %d repetitions, all clear %v after sipp's end",
				len(users), requests, repeats, took.Round(time.Millisecond))
		})
	}
}

// sipp places calls from callerN to calleeN, answers them, and waits for their end.
func (sc *scene) sipp(t *testing.T, calls, rate int, lasts time.Duration) {
	t.Helper()
	port, err := stack.FreePort()
	check(t, err)
	m := fmt.Sprint(calls)
	_, err = sc.Sipp("uas", "-p", fmt.Sprint(port))
	check(t, err)
	register, err := sc.Sipp("register", "-m", m, "-r", "200", "-key", "callee", "callee", "-key", "domain", stack.Domain,
		"-key", "contact", stack.Addr(port), sc.proxy.Addr)
	check(t, err)
	check(t, register.Succeed(10*time.Second))
	uac, err := sc.Sipp("uac", "-m", m, "-r", fmt.Sprint(rate), "-d", fmt.Sprint(lasts.Milliseconds()),
		"-key", "caller", "caller", "-key", "callee", "callee", "-key", "domain", stack.Domain, sc.proxy.Addr)
	check(t, err)
	check(t, uac.Succeed(30*time.Second))
}

// twoPublishes checks what one user of one call was published by.
func twoPublishes(got []stack.Publish) error {
	if len(got) != 2 {
		var kinds []string
		for _, p := range got {
			kinds = append(kinds, p.Kind())
		}
		return fmt.Errorf("%d requests, not 2: %s", len(got), strings.Join(kinds, ", "))
	}
	first, second := got[0], got[1]
	switch {
	case first.IfMatch != "":
		return fmt.Errorf("the first request has SIP-If-Match: %s", first.IfMatch)
	case !first.OnThePhone():
		return fmt.Errorf("the first request does not say on-the-phone:\n%s", first.Text)
	case first.Expires <= 0:
		return fmt.Errorf("the first request has Expires %d", first.Expires)
	case second.IfMatch != first.Tag:
		return fmt.Errorf("the second request has SIP-If-Match %q, not %q", second.IfMatch, first.Tag)
	case second.Expires != 0:
		return fmt.Errorf("the second request has Expires %d, not 0", second.Expires)
	case second.Body != "" || strings.Contains(strings.ToLower(second.Text), "\r\ncontent-type:"):
		return fmt.Errorf("the second request has a body:\n%s", second.Text)
	}
	return nil
}
