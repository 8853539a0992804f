package dialoginfo_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/dialoginfo"
)

// shown is a table in words: each dialog's id and state.
func shown(table *dialoginfo.Table) string {
	var all []string
	for _, d := range table.Dialogs() {
		all = append(all, d.ID+" "+d.State.String())
	}
	return strings.Join(all, ", ")
}

// TestApply follows documents by RFC 4235 section 4.3.
func TestApply(t *testing.T) {
	type step struct {
		document string
		err      error
		shown    string
	}
	const last = math.MaxUint32
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"partial ones add, change and remove", []step{
			{full(0, in("a", "trying")), nil, "a trying"},
			{partial(1, in("b", "confirmed")), nil, "b confirmed, a trying"},
			{partial(2, in("a", "early"), in("b", "terminated")), nil, "a early"},
			{partial(3), nil, "a early"},
			{partial(4, in("a", "terminated"), in("never seen", "terminated")), nil, ""},
		}},
		{"a full one replaces", []step{
			{full(0, in("a", "confirmed"), in("b", "early")), nil, "a confirmed, b early"},
			{full(1, in("c", "early")), nil, "c early"},
			{full(2), nil, ""},
		}},
		{"a full one may have any version", []step{
			{full(7, in("a", "confirmed")), nil, "a confirmed"},
			{full(99, in("b", "confirmed")), nil, "b confirmed"},
			{full(0, in("c", "confirmed")), nil, "c confirmed"},
			{full(0, in("d", "confirmed")), nil, "d confirmed"},
			{partial(1, in("d", "terminated")), nil, ""},
		}},
		{"a gap, until a full one comes", []step{
			{full(0, in("a", "confirmed")), nil, "a confirmed"},
			{partial(2, in("a", "terminated")), dialoginfo.ErrGap, "a confirmed"},
			{partial(3, in("b", "early")), dialoginfo.ErrGap, "a confirmed"},
			{partial(1, in("b", "early")), dialoginfo.ErrGap, "a confirmed"},
			{full(9, in("b", "early")), nil, "b early"},
			{partial(10, in("b", "terminated")), nil, ""},
		}},
		{"going back", []step{
			{full(5, in("a", "confirmed")), nil, "a confirmed"},
			{partial(4, in("a", "terminated")), dialoginfo.ErrGap, "a confirmed"},
		}},
		{"twice", []step{
			{full(5, in("a", "confirmed"), in("b", "early")), nil, "a confirmed, b early"},
			{partial(6, in("b", "terminated")), nil, "a confirmed"},
			{partial(6, in("b", "terminated")), nil, "a confirmed"},
			{partial(7, in("a", "terminated")), nil, ""},
		}},
		{"a notifier that does not count is not believed", []step{
			{full(1, in("a", "confirmed")), nil, "a confirmed"},
			{partial(1, in("a", "terminated")), dialoginfo.ErrGap, "a confirmed"},
		}},
		{"the same version, a new dialog", []step{
			{full(1), nil, ""},
			{partial(1, in("a", "early")), dialoginfo.ErrGap, ""},
		}},
		{"a partial one at first", []step{
			{partial(0, in("a", "confirmed")), dialoginfo.ErrGap, ""},
			{partial(1, in("a", "confirmed")), dialoginfo.ErrGap, ""},
		}},
		{"the number's end", []step{
			{full(last), nil, ""},
			{partial(0, in("a", "early")), nil, "a early"},
		}},
		{"ids twice, which a later one replaces", []step{
			{full(0, in("a", "confirmed"), in("a", "early")), nil, "a confirmed, a early"},
			{partial(1, in("a", "proceeding"), in("a", "early")), nil, "a early"},
		}},
		{"terminated in a full one", []step{
			{full(0, in("a", "terminated"), in("b", "early")), nil, "b early"},
		}},
		{"no ids", []step{
			{full(0, `<dialog><state>early</state></dialog>`), nil, " early"},
			{partial(1, `<dialog><state>confirmed</state></dialog>`), nil, " confirmed"},
			{partial(2, `<dialog call-id="x" local-tag="1"><state>early</state></dialog>`), nil, " confirmed,  early"},
			{partial(3, `<dialog call-id="x" local-tag="1"><state>terminated</state></dialog>`), nil, " confirmed"},
			{partial(4, `<dialog><state>terminated</state></dialog>`), nil, ""},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var table dialoginfo.Table
			for i, s := range c.steps {
				if err := table.Apply(read(t, s.document)); !errors.Is(err, s.err) {
					t.Errorf("step %d: %v, want %v", i, err, s.err)
				}
				if got := shown(&table); got != s.shown {
					t.Errorf("step %d: %q, want %q", i, got, s.shown)
				}
			}
		})
	}
}

// TestRenew: what is known stays while a fresh subscription is made, and its first partial
// document is not taken for the old one's next.
func TestRenew(t *testing.T) {
	var table dialoginfo.Table
	if err := table.Apply(read(t, full(0, in("a", "confirmed")))); err != nil {
		t.Fatal(err)
	}
	table.Renew()
	if err := table.Apply(read(t, partial(1, in("a", "terminated")))); !errors.Is(err, dialoginfo.ErrGap) || !table.Busy() {
		t.Errorf("%v, busy %v", err, table.Busy())
	}
	if err := table.Apply(read(t, full(0))); err != nil || table.Busy() {
		t.Errorf("%v, busy %v", err, table.Busy())
	}
}

// TestTableIsBounded: by many partial documents, too, and a full one mends it.
func TestTableIsBounded(t *testing.T) {
	var table dialoginfo.Table
	var most []string
	for i := range dialoginfo.MaxDialogs {
		most = append(most, in(fmt.Sprint("d", i), "early"))
	}
	if err := table.Apply(read(t, full(0, most...))); err != nil {
		t.Fatal(err)
	}
	if err := table.Apply(read(t, partial(1, in("d0", "confirmed")))); err != nil {
		t.Errorf("a known one: %v", err)
	}
	if err := table.Apply(read(t, partial(2, in("one more", "early")))); !errors.Is(err, dialoginfo.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	if n := len(table.Dialogs()); n != dialoginfo.MaxDialogs {
		t.Errorf("%d dialogs", n)
	}
	if err := table.Apply(read(t, full(3, in("a", "early")))); err != nil || shown(&table) != "a early" {
		t.Errorf("%v, %s", err, shown(&table))
	}
}
