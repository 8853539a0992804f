package kamailiocfg

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPlainCall also checks that the dialog's variables tell the same as the line, since
// a resync reads those.
func TestPlainCall(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	bob := p.device(t, "bob", "uas.xml")
	call := p.call(t, "uac.xml", "alice", "bob", longer)
	c.until(t, "confirmed call", func() bool { return len(c.lines) == 1 })
	up := c.expect(t, 0, "c alice bob")[0]
	sameInRPC(t, p, up)
	call.wait(t)
	bob.wait(t)
	lines := c.expect(t, 0, "c alice bob", "x")
	if lines[1].dialog != up.dialog {
		t.Errorf("dialog %s began and %s ended", up.dialog, lines[1].dialog)
	}
	if _, flags := c.last(); flags != "-" {
		t.Errorf("flags %q, want none", flags)
	}
}

func TestCallOverTCP(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	p.device(t, "bob", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly, "-t", "t1").wait(t)
	c.expect(t, 0, "c alice bob", "x")
}

// TestManyCalls: the counter is shared by all workers, and no number is lost or given
// twice (settled checks that).
func TestManyCalls(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	p.answerer(t, "bob")
	p.call(t, "uac.xml", "alice", "bob", briefly, "-m", "300", "-r", "100").wait(t)
	count := map[string]int{}
	for _, l := range c.settled(t, 0) {
		count[l.String()]++
	}
	if count["c alice bob"] != 300 || count["x"] < 300 {
		t.Errorf("lines %v, want 300 calls", count)
	}
}

// expected are the lines that Kamailio logs of itself once it is up.
var expected = regexp.MustCompile(`processes \(at least\)|probe_max_|tcp_init|io_listen_loop|client closing connection|sig_usr|handle_sigs|sctp`)

// TestNothingIsLogged: no call leaves a line in the log at the usual level.
func TestNothingIsLogged(t *testing.T) {
	p := sample(t, "BUSYLAMP_EARLY")
	p.kamcmd(t, "htable.sets", "forward", "bob::busy", "sip:carol@example.com")
	c := p.listen(t)
	p.device(t, "bob", "uas_busy.xml")
	p.device(t, "carol", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
	c.settled(t, 0)
	p.stop()
	_, log, up := strings.Cut(p.out.String(), "processes (at least)")
	if !up {
		t.Fatalf("no start in the log:\n%s", p.out.Bytes())
	}
	_, log, _ = strings.Cut(log, "\n")
	for l := range strings.Lines(log) {
		if strings.TrimSpace(l) != "" && !expected.MatchString(l) {
			t.Errorf("log: %s", l)
		}
	}
}

// TestReinviteGivesNothing: hold and its like are no news.
func TestReinviteGivesNothing(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	bob := p.device(t, "bob", "uas.xml")
	p.call(t, "uac_reinvite.xml", "alice", "bob", briefly).wait(t)
	bob.wait(t)
	c.expect(t, 0, "c alice bob", "x")
}

func TestOverlappingCallsOfOneUser(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	p.device(t, "bob", "uas.xml")
	first := p.call(t, "uac.xml", "alice", "bob", longer)
	c.until(t, "first call", func() bool { return len(c.lines) == 1 })
	p.device(t, "carol", "uas.xml")
	p.call(t, "uac.xml", "alice", "carol", briefly).wait(t)
	lines := c.expect(t, 0, "c alice bob", "c alice carol", "x")
	if lines[2].dialog != lines[1].dialog {
		t.Errorf("dialog %s ended first, want %s", lines[2].dialog, lines[1].dialog)
	}
	first.wait(t)
	c.expect(t, 3, "x")
}

// TestParallelForkToDevices: one user, two devices, one answers.
func TestParallelForkToDevices(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	rings := p.device(t, "bob", "uas_ring.xml")
	p.device(t, "bob", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
	rings.wait(t)
	c.expect(t, 0, "c alice bob", "x")
}

// TestRingGroup: the members' calls come back to the proxy, and the one who answers is
// the callee.
func TestRingGroup(t *testing.T) {
	for _, who := range []string{"bob", "carol"} {
		t.Run(who, func(t *testing.T) {
			p := sample(t)
			p.kamcmd(t, "htable.sets", "group", "team", "bob,carol,dave")
			c := p.listen(t)
			others := []string{"bob", "carol", "dave"}
			for _, o := range others {
				if o == who {
					p.device(t, o, "uas.xml")
				} else {
					p.device(t, o, "uas_ring.xml")
				}
			}
			call := p.call(t, "uac.xml", "alice", "team", longer)
			c.until(t, "confirmed call", func() bool { return len(c.lines) == 1 })
			sameInRPC(t, p, c.expect(t, 0, "c alice "+who)[0])
			call.wait(t)
			c.expect(t, 0, "c alice "+who, "x")
		})
	}
}

// TestRingGroupMemberForwards: the innermost leg knows best.
func TestRingGroupMemberForwards(t *testing.T) {
	p := sample(t)
	p.kamcmd(t, "htable.sets", "group", "team", "bob,carol")
	p.kamcmd(t, "htable.sets", "forward", "bob::busy", "sip:dave@example.com")
	c := p.listen(t)
	p.device(t, "bob", "uas_busy.xml")
	p.device(t, "carol", "uas_ring.xml")
	p.device(t, "dave", "uas.xml")
	p.call(t, "uac.xml", "alice", "team", briefly).wait(t)
	c.expect(t, 0, "c alice dave", "x")
}

// TestForwardToRingGroup: an outer leg that knows a target is not to outdo the member.
func TestForwardToRingGroup(t *testing.T) {
	p := sample(t)
	p.kamcmd(t, "htable.sets", "group", "team", "bob,carol")
	p.kamcmd(t, "htable.sets", "forward", "erin::busy", "sip:team@example.com")
	c := p.listen(t)
	p.device(t, "erin", "uas_busy.xml")
	p.device(t, "bob", "uas.xml")
	p.device(t, "carol", "uas_ring.xml")
	p.call(t, "uac.xml", "alice", "erin", briefly).wait(t)
	c.expect(t, 0, "c alice bob", "x")
}

func TestForwardOnNoAnswer(t *testing.T) {
	p := sample(t, "PROXY_NO_ANSWER=500")
	p.kamcmd(t, "htable.sets", "forward", "bob::noanswer", "sip:carol@example.com")
	c := p.listen(t)
	p.device(t, "bob", "uas_ring.xml")
	p.device(t, "carol", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
	c.expect(t, 0, "c alice carol", "x")
}

// TestForwardOnBusy goes on twice: bob to carol to dave.
func TestForwardOnBusy(t *testing.T) {
	p := sample(t)
	p.kamcmd(t, "htable.sets", "forward", "bob::busy", "sip:carol@example.com")
	p.kamcmd(t, "htable.sets", "forward", "carol::busy", "sip:dave@example.com")
	c := p.listen(t)
	p.device(t, "bob", "uas_busy.xml")
	p.device(t, "carol", "uas_busy.xml")
	p.device(t, "dave", "uas.xml")
	call := p.call(t, "uac.xml", "alice", "bob", longer)
	c.until(t, "confirmed call", func() bool { return len(c.lines) == 1 })
	sameInRPC(t, p, c.expect(t, 0, "c alice dave")[0])
	call.wait(t)
	c.expect(t, 1, "x")
}

// TestVoiceMail makes nobody busy but the caller, whether called or forwarded to.
func TestVoiceMail(t *testing.T) {
	p := sample(t)
	p.kamcmd(t, "htable.sets", "forward", "bob::busy", "sip:voicemail@example.com")
	c := p.listen(t)
	p.device(t, "bob", "uas_busy.xml")
	mail := p.device(t, "voicemail", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
	mail.wait(t)
	c.expect(t, 0, "c alice none", "x")
}

func TestDirectCallToVoiceMail(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	p.device(t, "voicemail", "uas.xml")
	p.call(t, "uac.xml", "alice", "voicemail", briefly).wait(t)
	c.expect(t, 0, "c alice none", "x")
}

// TestCallsThatNobodyAnswers: a call that was never confirmed gives no line at all.
func TestCallsThatNobodyAnswers(t *testing.T) {
	p := sample(t)
	c := p.listen(t)
	bob := p.device(t, "bob", "uas_ring.xml")
	p.call(t, "uac_cancel.xml", "alice", "bob", briefly).wait(t)
	bob.wait(t)
	p.call(t, "uac_404.xml", "alice", "nobody", 0).wait(t)
	c.expect(t, 0)
}

// TestDeadPhones: both ends are gone without a word; the dialog's keepalive ends the call
// (Kamailio's shortest is 30 seconds).
func TestDeadPhones(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 40 seconds: run it without -short")
	}
	p := sample(t, "PROXY_KEEPALIVE=30", "PROXY_DEAD=500")
	c := p.listen(t)
	bob := p.device(t, "bob", "uas.xml")
	call := p.call(t, "uac.xml", "alice", "bob", time.Minute)
	c.until(t, "confirmed call", func() bool { return len(c.lines) == 1 })
	bob.kill()
	call.kill()
	if !c.within(time.Minute, func() bool { return len(c.lines) > 1 }) {
		t.Fatal("the call is still up")
	}
	for _, l := range c.settled(t, 1) {
		if l.kind != "x" {
			t.Errorf("line %v, want an end", l)
		}
	}
}
