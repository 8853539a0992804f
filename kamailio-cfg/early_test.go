package kamailiocfg

import (
	"fmt"
	"testing"
)

func TestEarly(t *testing.T) {
	p := sample(t, "BUSYLAMP_EARLY")
	c := p.listen(t)
	if _, flags := c.last(); flags != "early" {
		t.Errorf("flags %q, want early", flags)
	}
	p.device(t, "bob", "uas.xml")
	p.call(t, "uac.xml", "alice", "bob", briefly).wait(t)
	c.expect(t, 0, "e alice bob", "e alice bob", "c alice bob", "x")
}

// TestEarlyForwarded: whoever rings is the callee; a cancelled or refused call ends.
func TestEarlyForwarded(t *testing.T) {
	p := sample(t, "BUSYLAMP_EARLY")
	p.kamcmd(t, "htable.sets", "forward", "bob::busy", "sip:carol@example.com")
	c := p.listen(t)
	p.device(t, "bob", "uas_busy.xml")
	carol := p.device(t, "carol", "uas_ring.xml")
	p.call(t, "uac_cancel.xml", "alice", "bob", briefly).wait(t)
	carol.wait(t)
	lines := c.expect(t, 0, "e alice bob", "e alice carol", "x")
	for _, l := range lines {
		if l.dialog != lines[0].dialog {
			t.Errorf("lines of several dialogs: %v", lines)
		}
	}
	p.call(t, "uac_404.xml", "alice", "nobody", 0).wait(t)
	c.expect(t, 3, "e alice nobody", "x")
}

// TestEarlyWithoutDialog: a call that the dialog module refuses (it has no tag in From)
// gives no line.
func TestEarlyWithoutDialog(t *testing.T) {
	p := run(t, script{modules: needed, route: answering}.write(t), "BUSYLAMP_EARLY")
	c := p.listen(t)
	port := freePort(t)
	answerOn(t, port)
	o := oddCall{uri: fmt.Sprintf("sip:%d@example.com", port), from: "<sip:alice@example.com>",
		to: "<sip:bob@example.com>", callID: unique()}
	if status := o.run(t, p); status != 200 {
		t.Fatalf("status %d", status)
	}
	c.expect(t, 0)
}

// TestEarlyRingGroup: each member that rings is named (twice, by both legs).
func TestEarlyRingGroup(t *testing.T) {
	p := sample(t, "BUSYLAMP_EARLY")
	p.kamcmd(t, "htable.sets", "group", "team", "bob,carol")
	c := p.listen(t)
	p.device(t, "bob", "uas_ring.xml")
	p.device(t, "carol", "uas.xml")
	p.call(t, "uac.xml", "alice", "team", briefly).wait(t)
	lines := c.settled(t, 0)
	rang := map[string]int{}
	for _, l := range lines {
		if l.kind != "x" {
			rang[l.String()]++
		}
	}
	if rang["c alice carol"] != 1 || rang["e alice bob"] == 0 || rang["e alice carol"] == 0 {
		t.Errorf("lines %v", lines)
	}
}
