package stack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
)

// publishState sends a PUBLISH of a user who is on the phone and returns the answer's
// entity-tag. tuple is the document's tuple id, expires is in seconds.
func publishState(ctx context.Context, a *agent, user, tuple string, expires int) (string, error) {
	body := fmt.Sprintf(`<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"`+
		` xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:%s@example.com"><tuple id="%s"><status><basic>open</basic></status></tuple>`+
		`<dm:person id="p%s"><rpid:activities><rpid:busy/><rpid:on-the-phone/></rpid:activities></dm:person></presence>`, user, tuple, tuple)
	uri := "sip:" + user + "@example.com"
	m, err := a.do(ctx, request{method: "PUBLISH", uri: uri, branch: newBranch(), cseq: 1, from: "<" + uri + ">;tag=1", to: "<" + uri + ">",
		callID: newBranch(), extra: fmt.Sprintf("Event: presence\r\nExpires: %d\r\nContent-Type: application/pidf+xml\r\n", expires), body: body})
	if err == nil && m.status() != 200 {
		err = errors.New(m.start)
	}
	if err != nil {
		return "", err
	}
	return m.get("sip-etag"), nil
}

// TestLampsAndTable: what Lamps and Table read from a real presence server is what was
// published there, and what has expired goes from both.
func TestLampsAndTable(t *testing.T) {
	if err := Tools("kamailio"); err != nil {
		if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := newTestStack(t)
	server, err := s.Presence(t.Context(), KamailioOptions{Shared: 128})
	if err != nil {
		t.Fatal(err)
	}
	var a agent
	if err := a.open(server.Addr, func(*message, netip.AddrPort) {}, nil); err != nil {
		t.Fatal(err)
	}
	defer a.socket.close()
	lamps, err := s.Lamps(server.Addr, Domain)
	if err != nil {
		t.Fatal(err)
	}

	const users, lit = 1000, 400
	all := make([]string, users)
	for i := range all {
		all[i] = fmt.Sprintf("user%d", i)
	}
	for i := range lit {
		if _, err := publishState(t.Context(), &a, all[i], "t", 60); err != nil {
			t.Fatal(err)
		}
	}
	// One with two publications, and one whose only one is short.
	for _, tuple := range []string{"a", "b"} {
		if _, err := publishState(t.Context(), &a, "twice", tuple, 60); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := publishState(t.Context(), &a, "brief", "t", 2); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	shown, err := lamps.Fetch(t.Context(), append(all, "twice", "brief", "nobody")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d users looked at in %v", users+3, time.Since(began).Round(time.Millisecond))
	if len(shown) != lit+2 || shown["user0"] != 1 || shown["twice"] != 2 || shown["brief"] != 1 {
		t.Errorf("%d users are shown, not %d: twice by %d publications, brief by %d", len(shown), lit+2, shown["twice"], shown["brief"])
	}
	table, err := server.Table()
	if err != nil {
		t.Fatal(err)
	}
	if len(table) != lit+2 || table["twice"] != 2 || table["brief"] != 1 {
		t.Errorf("%d users are in the table, not %d: twice by %d publications", len(table), lit+2, table["twice"])
	}
	err = s.Wait(t.Context(), 15*time.Second, "the expiry of one publication", func() error {
		shown, err := lamps.Fetch(t.Context(), "brief", "user0")
		if err == nil && (shown["brief"] != 0 || shown["user0"] != 1) {
			err = fmt.Errorf("shown: %v", shown)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = s.Wait(t.Context(), 15*time.Second, "the table without it", func() error {
		n, err := server.Publications()
		if err == nil && n != lit+2 {
			err = fmt.Errorf("%d publications, not %d", n, lit+2)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
