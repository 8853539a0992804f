package stack

import (
	"errors"
	"os"
	"testing"
)

func TestPerson(t *testing.T) {
	for document, want := range map[string]string{
		"": "",
		`<presence><tuple id="x"><note>At work</note></tuple></presence>`:                                      "",
		PIDF("sip:a@example.com", "t", "", "away"):                                                             "away; ",
		PIDF("sip:a@example.com", "t", "On the phone", "busy", "on-the-phone"):                                 "busy on-the-phone; On the phone",
		`<p xmlns="x"><dm:person id="1"><e:activities><e:busy /></e:activities></dm:person><note>n</note></p>`: "busy; ",
		`<p><person id="1"><note>Out`:                                                                          "; Out",
	} {
		if got := Person(document); got != want {
			t.Errorf("Person(%s) = %q, not %q", document, got, want)
		}
	}
}

// TestChildren: what a process has started is told, until it has ended.
func TestChildren(t *testing.T) {
	s := newTestStack(t)
	p, err := s.start(program{name: "parent", path: "/bin/sh", args: []string{"-c", "sleep 60 & echo; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	var child Child
	if err := s.Wait(t.Context(), termPatience, "a child", func() error {
		all, err := p.Children()
		if err != nil || len(all) != 1 || all[0].Name != "sleep" {
			return errors.Join(err, os.ErrNotExist)
		}
		child = all[0]
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if resident, _, err := Usage(child.PID); err != nil || resident <= 0 || !child.Lives() {
		t.Errorf("%+v has %d bytes, %v, lives %v", child, resident, err, child.Lives())
	}
	p.Expect()
	if err := child.Kill(); err != nil {
		t.Error(err)
	}
	if err := s.Wait(t.Context(), termPatience, "its end", func() error {
		if child.Lives() {
			return os.ErrExist
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
