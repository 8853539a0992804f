package dialoginfo

import "testing"

// A dialog that was confirmed does not ring again, whatever is told last; another one does,
// and one whose Call-ID nobody tells may.
func TestDialogDoesNotGoBack(t *testing.T) {
	one := func(callID string, s State) Document {
		return Document{Full: true, Dialogs: []Dialog{{ID: "x", CallID: callID, State: s}}}
	}
	for _, c := range []struct {
		name  string
		steps []Document
		busy  bool
	}{
		{"the same call", []Document{one("a", Confirmed), one("a", Early)}, true},
		{"and its end", []Document{one("a", Confirmed), one("a", Early), one("a", Terminated)}, false},
		{"another call by the same id", []Document{one("a", Confirmed), one("b", Early)}, false},
		{"without a Call-ID", []Document{one("", Confirmed), one("", Early)}, false},
		{"forward", []Document{one("a", Early), one("a", Confirmed)}, true},
	} {
		var table Table
		for _, d := range c.steps {
			if err := table.Apply(d); err != nil {
				t.Fatal(err)
			}
		}
		if table.Busy() != c.busy {
			t.Errorf("%s: busy %v", c.name, table.Busy())
		}
	}
}
