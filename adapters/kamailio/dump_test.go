package kamailio

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// dumpingKamailio answers like a Kamailio that writes what lines returns, and whose
// dlg.briefing knows of some dialogs.
func dumpingKamailio(t testing.TB, briefed int, lines func() string) (truth *Truth, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "dump")
	addr := answers(t, func(w http.ResponseWriter, method string, params []string) {
		result := "{}"
		switch method {
		case "htable.get":
			result = `{"item":{"name":"epoch","value":"17.5"}}`
		case "dlg.briefing":
			result = "[" + strings.TrimSuffix(strings.Repeat(`{"h_entry":1,"h_id":1,"state":4},`, briefed), ",") + "]"
		case "dlg.dump_file":
			f, err := os.OpenFile(params[0], os.O_RDWR|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				break
			}
			defer f.Close()
			if _, err := io.WriteString(f, lines()); err != nil {
				t.Error(err)
			}
		}
		io.WriteString(w, `{"jsonrpc":"2.0","result":`+result+`,"id":1}`)
	})
	truth = NewTruthByFile(client(t, addr), dir, func(err error) { t.Log(err) })
	t.Cleanup(truth.dump.close)
	return truth, dir
}

// dumpLine is a line as Kamailio 5.6.3 writes it.
func dumpLine(d dlg, timeout int64) string {
	q := func(s string) string { return string(appendJSON(nil, s)) }
	vars := strings.NewReplacer("{", "", "}", "").Replace(variables(dlg{caller: d.caller, callee: d.callee, extra: d.extra}))
	return fmt.Sprintf(`{"h_entry":%d,"h_id":%d,"ref":2,"call_id":%s,"from_uri":%s,"to_uri":"sip:x@example.com","state":%d,"timeout":%d,"caller":{"tag":"ft"},"profiles":{},"variables":{%s}}`,
		d.entry, d.id, q(d.callID), q(d.from), d.state, timeout, vars) + "\n"
}

func TestDump(t *testing.T) {
	now := time.Now()
	dialogs := []dlg{
		{1, 1, 4, "plain@example.com", "", "sip:alice@example.com", "", "sip:bob@example.com", "x"},
		{1, 2, 3, "named@example.com", "", "sip:spoof@example.com", "sip:carol@example.com", "none", ""},
		{1, 3, 2, "early", "", "sip:dan@example.com", "", "sip:erin@example.com", ""},
		{1, 5, 5, "over", "", "sip:dan@example.com", "", "", ""},
		{2, 7, 4, strings.Repeat("l", 9000), "", "sip:long@example.com", "", "", ""},
	}
	for i, id := range []string{"\xff\xfe@\x80", `"quoted"`, `back\slash\`, "a\tb\n", "`$(x)"} {
		dialogs = append(dialogs, dlg{4, i, 4, id, "", "sip:x@example.com", "", "sip:y@example.com", id})
	}
	truth, dir := dumpingKamailio(t, 0, func() string {
		var b strings.Builder
		for _, d := range dialogs {
			b.WriteString(dumpLine(d, now.Add(time.Hour).Unix()))
		}
		return b.String()
	})
	l, err := truth.List(t.Context())
	if err != nil || l.Epoch != "17.5" || len(l.Live) != len(dialogs)-1 {
		t.Fatalf("%+v, %v", l, err)
	}
	for _, d := range l.Live {
		if d.Lapses < 59*time.Minute || d.Lapses > 61*time.Minute {
			t.Errorf("%v lapses in %v", d.Dialog, d.Lapses)
		}
	}
	got := map[busylamp.DialogID]busylamp.CallEvent{}
	if err := truth.Details(t.Context(), l.Live[1:], func(events []busylamp.CallEvent) {
		for _, ev := range events {
			ev.Lapses = 0
			got[ev.Dialog] = ev
		}
	}); err != nil {
		t.Fatal(err)
	}
	want := map[busylamp.DialogID]busylamp.CallEvent{}
	for _, d := range dialogs[1:] {
		if d.state == 5 {
			continue
		}
		ev := busylamp.CallEvent{Dialog: d.listed(), Stage: stageOf(d.state), Caller: d.from, Callee: d.callee, CallID: d.callID[:min(len(d.callID), maxCallID)]}
		if d.caller != "" {
			ev.Caller = d.caller
		}
		want[d.listed()] = ev
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDumpRefuses: what may not be all is no list.
func TestDumpRefuses(t *testing.T) {
	line := dumpLine(dlg{1, 1, 4, "c", "", "sip:a@example.com", "", "sip:b@example.com", ""}, 0)
	for name, c := range map[string]struct {
		briefed int
		text    string
		want    string // of the error; "": none
		live    int
	}{
		"no calls":             {0, "", "", 0},
		"cannot write":         {3, "", "the proxy has dialogs, and has written none", 0},
		"one call, no timeout": {1, line, "", 1},
		"cut at the end":       {1, line + line[:len(line)/2], "cut", 0},
		"cut at a line's end":  {1, line[:len(line)-1], "cut", 0},
		"cut in between":       {1, line[:40] + line, "line 1", 0},
		"no JSON":              {1, "\n", "line 1", 0},
		"a line without end":   {1, line + strings.Repeat("x", dumpMaxLine+1) + "\n", "too long", 0},
	} {
		t.Run(name, func(t *testing.T) {
			truth, dir := dumpingKamailio(t, c.briefed, func() string { return c.text })
			live, err := truth.dump.list(t.Context())
			switch {
			case c.want == "" && (err != nil || len(live) != c.live):
				t.Errorf("%+v, %v", live, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir)):
				t.Errorf("error %v, want one that says %q and %s", err, c.want, dir)
			}
		})
	}
}

// TestDumpGrows: a dump above what was reserved may lack lines, and is made again.
func TestDumpGrows(t *testing.T) {
	asked := 0
	line := dumpLine(dlg{1, 1, 4, strings.Repeat("c", 900), "", "sip:a@example.com", "", "sip:b@example.com", ""}, 0)
	lines := dumpLeast/len(line) + 1
	truth, _ := dumpingKamailio(t, 0, func() string { asked++; return strings.Repeat(line, lines) })
	l, err := truth.List(t.Context())
	if err != nil || asked != 2 || len(l.Live) != lines {
		t.Errorf("asked %d times, %d dialogs, %v", asked, len(l.Live), err)
	}
	if _, err = truth.List(t.Context()); err != nil || asked != 3 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// TestDumpWithoutSpace: with too little space the proxy is not even asked.
func TestDumpWithoutSpace(t *testing.T) {
	truth, _ := dumpingKamailio(t, 0, func() string { t.Error("asked"); return "" })
	truth.dump.reserved = 1 << 60
	if _, err := truth.dump.list(t.Context()); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
		t.Errorf("error %v", err)
	}
}

// TestDumpFallsBack: where there can be no dump, the proxy is asked in the other way, and that
// is told once; a dump is tried again later.
func TestDumpFallsBack(t *testing.T) {
	text := "no JSON\n"
	truth, _ := dumpingKamailio(t, 2, func() string { return text })
	var told []error
	truth.dump.warn = func(err error) { told = append(told, err) }
	for range 3 {
		l, err := truth.List(t.Context())
		if err != nil || len(l.Live) != 2 || truth.Details(t.Context(), nil, noEvents) != nil {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	if len(told) != 1 || told[0] == nil {
		t.Errorf("told %v", told)
	}
	truth.dump.retry = time.Time{}
	text = dumpLine(dlg{1, 1, 4, "c", "", "sip:a@example.com", "", "sip:b@example.com", ""}, 0)
	if l, err := truth.List(t.Context()); err != nil || len(l.Live) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if len(told) != 2 || told[1] != nil {
		t.Errorf("told %v", told)
	}
}

// TestDumpOfADeadProxy: a proxy that does not answer at all says nothing of its dumps.
func TestDumpOfADeadProxy(t *testing.T) {
	truth := NewTruthByFile(client(t, "http://127.0.0.1:1/RPC"), filepath.Join(t.TempDir(), "dump"), func(err error) { t.Error(err) })
	if _, err := truth.dump.list(t.Context()); err == nil {
		t.Error("a list")
	}
	if _, err := truth.live(t.Context()); err == nil || truth.dump.failing {
		t.Errorf("%v", err)
	}
}

// TestDumpDirectory: it is made, and swept; one where others can make files is refused, and
// left as it is.
func TestDumpDirectory(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "new")
	if err := sweepDumps(dir); err != nil {
		t.Fatal(err)
	}
	stale, other := filepath.Join(dir, dumpPrefix+"X"), filepath.Join(dir, "other")
	fresh := stale + "Y"
	long := time.Now().Add(-2 * dumpStale)
	for _, name := range []string{stale, fresh, other} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chtimes(stale, long, long), os.Chtimes(other, long, long)); err != nil {
		t.Fatal(err)
	}
	if err := sweepDumps(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != dumpMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an earlier file is still there: %v", err)
	}
	for _, name := range []string{other, fresh} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	shared, link := filepath.Join(above, "shared"), filepath.Join(above, "link")
	if err := errors.Join(os.Mkdir(shared, 0o700), os.Chmod(shared, 0o777|os.ModeSticky), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{shared, link, other, filepath.Join(other, "x"), filepath.Join(above, "missing", "x")} {
		if err := sweepDumps(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: error %v", bad, err)
		}
	}
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// FuzzSkim: what is read in haste is what is read properly, or an error.
func FuzzSkim(f *testing.F) {
	f.Add([]byte(strings.TrimSpace(dumpLine(dlg{1, 2, 4, `c",\"state\":5,"`, "", "sip:a@example.com", "", "sip:b@example.com", ""}, 17))))
	f.Add([]byte(`{"h_entry":1,"h_id":2,"state":4,"timeout":3,"h_entry":4,"variables":{}}`))
	f.Add([]byte(`{"h_entry":99999999999999999999,"h_id":2,"state":4,"timeout":3,"variables":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		quick, err := skimDumped(line)
		slow, wrong := readDumped(line)
		if wrong != nil {
			return // it is not as Kamailio writes it
		}
		if err != nil || quick.dialog() != slow.dialog() || quick.State != slow.State || quick.Timeout != slow.Timeout {
			t.Errorf("%q: %+v, %v; want %+v", line, quick, err, slow)
		}
	})
}
