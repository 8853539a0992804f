package kamailio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
)

// counted is a listener that counts.
type counted struct {
	net.Listener
	accepted atomic.Int32
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

func countingServer(t testing.TB) (*counted, func()) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"result":[]}`)
	}))
	c := &counted{Listener: s.Listener}
	s.Listener = c
	s.Start()
	return c, s.Close
}

// dlg is a dialog of a fake proxy.
type dlg struct {
	entry, id, state      int
	callID, tag, from     string
	caller, callee, extra string
}

func (d dlg) listed() busylamp.DialogID {
	return busylamp.DialogID{Entry: uint32(d.entry), ID: uint32(d.id)}
}

// kamailioOf answers like a Kamailio with these dialogs.
func kamailioOf(t testing.TB, epochs []string, dialogs []dlg) (addr string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	quote := func(s string) string { return string(appendJSON(nil, s)) }
	one := func(d dlg, fields string) string {
		s := fmt.Sprintf(`{"h_entry":%d,"h_id":%d`, d.entry, d.id)
		for _, f := range fields {
			s += map[rune]string{'s': fmt.Sprintf(`,"state":%d`, d.state), 'c': `,"call-id":` + quote(d.callID),
				'F': `,"from_tag":` + quote(d.tag)}[f]
		}
		return s + "}"
	}
	return answers(t, func(w http.ResponseWriter, method string, params []string) {
		result := "{}"
		switch method {
		case "htable.get":
			result = fmt.Sprintf(`{"item":{"name":"epoch","value":"%s"}}`, epochs[0])
			if len(epochs) > 1 {
				epochs = epochs[1:]
			}
		case "dlg.briefing":
			var all []string
			for _, d := range dialogs {
				all = append(all, one(d, params[0]))
			}
			result = "[" + strings.Join(all, ",\n") + "]"
		case "dlg.dlg_list": // the last one that matches, as Kamailio does
			asked.Add(1)
			for _, d := range dialogs {
				if d.callID == params[0] && (len(params) == 1 || params[1] == d.tag) {
					result = strings.TrimSuffix(one(d, "s"), "}") + `,"from_uri":` + quote(d.from) +
						`,"caller":{"tag":"x"},"profiles":[],"variables":[` + variables(d) + `]}`
				}
			}
		}
		io.WriteString(w, `{"jsonrpc":"2.0","result":`+result+`,"id":1}`)
	}), asked
}

func variables(d dlg) string {
	var vs []string
	for name, v := range map[string]string{"busylamp_caller": d.caller, "busylamp_callee": d.callee, "other": d.extra} {
		if v != "" {
			vs = append(vs, fmt.Sprintf(`{"%s":%s}`, name, appendJSON(nil, v)))
		}
	}
	return strings.Join(vs, ",")
}

var hostile = []string{"\xff\xfe@\x80", `"quoted"`, `back\slash\`, `\u0041`, "{brace", "}", "'", "caf\u00e9", "\x7f", "a\tb", "`$(x)"}

func TestTruth(t *testing.T) {
	dialogs := []dlg{
		{1, 1, 4, "plain@example.com", "t1", "sip:alice@example.com", "", "sip:bob@example.com", "x"},
		{1, 2, 3, "named@example.com", "t2", "sip:spoof@example.com", "sip:carol@example.com", "none", ""},
		{1, 3, 2, "early", "t3", "sip:dan@example.com", "", "sip:erin@example.com", ""},
		{1, 4, 1, "new", "t4", "sip:dan@example.com", "", "sip:erin@example.com", ""},
		{1, 5, 5, "over", "t5", "sip:dan@example.com", "", "", ""},
		{2, 1, 4, "shared", "mine", "sip:victim@example.com", "", "sip:bob@example.com", ""},
		{2, 2, 4, "shared", "theirs", "sip:thief@example.com", "", "sip:bob@example.com", ""},
		{3, 1, 4, strings.Repeat("l", maxAsked+1), "t", "sip:long@example.com", "", "", ""},
		{3, 2, 4, "", "t", "sip:empty@example.com", "", "", ""},
	}
	for i, id := range hostile {
		dialogs = append(dialogs, dlg{4, i, 4, id, "tag" + id, "sip:" + id + "@example.com", "", id, id})
	}
	addr, questions := kamailioOf(t, []string{"17.5"}, dialogs)
	truth := NewTruth(client(t, addr))
	l, err := truth.List(t.Context())
	if err != nil || l.Epoch != "17.5" || len(l.Live) != len(dialogs)-1 {
		t.Fatalf("%+v, %v", l, err)
	}
	stages := map[busylamp.DialogID]busylamp.Stage{}
	for _, d := range l.Live {
		stages[d.Dialog] = d.Stage
	}
	got := map[busylamp.DialogID]busylamp.CallEvent{}
	if err := truth.Details(t.Context(), append(l.Live, busylamp.Listed{Dialog: busylamp.DialogID{Entry: 9, ID: 9}}), func(events []busylamp.CallEvent) {
		for _, ev := range events {
			got[ev.Dialog] = ev
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, d := range dialogs {
		ev, there := got[d.listed()]
		if want := d.state != 5 && d.callID != "" && len(d.callID) <= maxAsked; there != want {
			t.Errorf("%.20q: there is %v", d.callID, there)
			continue
		} else if !want {
			continue
		}
		want := busylamp.CallEvent{Dialog: d.listed(), Stage: stages[d.listed()], Caller: d.from, Callee: d.callee, CallID: d.callID}
		if d.caller != "" {
			want.Caller = d.caller
		}
		if ev != want {
			t.Errorf("got  %+v\nwant %+v", ev, want)
		}
	}
	asked := questions.Load()
	if err := truth.Details(t.Context(), nil, noEvents); err != nil || questions.Load() != asked {
		t.Errorf("nothing wanted: %v", err)
	}
}

func TestStageOf(t *testing.T) {
	for state, want := range map[int]busylamp.Stage{0: busylamp.Ended, 1: busylamp.Early, 2: busylamp.Early, 3: busylamp.Confirmed,
		4: busylamp.Confirmed, 5: busylamp.Ended, 6: busylamp.Ended, -1: busylamp.Ended} {
		if got := stageOf(state); got != want {
			t.Errorf("%d: %v, want %v", state, got, want)
		}
	}
}

func TestListRefuses(t *testing.T) {
	for want, epochs := range map[string][]string{
		"restarted while": {"1.1", "2.2"}, "is no epoch (is busylamp.cfg included?)": {"x"}, `"" is no epoch`: {""},
	} {
		addr, _ := kamailioOf(t, epochs, nil)
		l, err := NewTruth(client(t, addr)).List(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), addr) || len(l.Live) > 0 {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// TestDetailsFail: the first error ends all, and what was learned is not taken for all.
func TestDetailsFail(t *testing.T) {
	var n atomic.Int32
	addr := answers(t, func(w http.ResponseWriter, method string, _ []string) {
		if method == "dlg.dlg_list" && n.Add(1) == 50 {
			w.WriteHeader(500)
			io.WriteString(w, `{"error":{"code":500,"message":"no"}}`)
			return
		}
		all := make([]string, 1000)
		for i := range all {
			all[i] = fmt.Sprintf(`{"h_entry":1,"h_id":%d,"call-id":"c%d"}`, i, i)
		}
		if method == "dlg.dlg_list" {
			io.WriteString(w, `{"result":{}}`)
			return
		}
		io.WriteString(w, `{"result":[`+strings.Join(all, ",")+`]}`)
	})
	err := NewTruth(client(t, addr)).Details(t.Context(), wantedOnes(1000), noEvents)
	if err == nil || !strings.Contains(err.Error(), "dlg.dlg_list: Kamailio says 500 no") || n.Load() > 60 {
		t.Errorf("%v after %d questions", err, n.Load())
	}
	ctx := within(t, 50*time.Millisecond)
	addr = answers(t, func(http.ResponseWriter, string, []string) { time.Sleep(500 * time.Millisecond) })
	if err := NewTruth(client(t, addr)).Details(ctx, wantedOnes(3), noEvents); !errors.Is(err, ctx.Err()) {
		t.Errorf("%v", err)
	}
}

// TestDetailsBatches: a few at a time, never at the same time.
func TestDetailsBatches(t *testing.T) {
	var dialogs []dlg
	for i := range 1000 {
		dialogs = append(dialogs, dlg{entry: 1, id: i, state: 4, callID: fmt.Sprint("c", i), tag: "t", from: "sip:a@b"})
	}
	addr, _ := kamailioOf(t, []string{"1"}, dialogs)
	var inside atomic.Int32
	n := 0
	err := NewTruth(client(t, addr)).Details(t.Context(), wantedOnes(1000), func(events []busylamp.CallEvent) {
		if inside.Add(1) > 1 || len(events) == 0 || len(events) > detailBatch {
			t.Errorf("%d events, %d at a time", len(events), inside.Load())
		}
		n += len(events)
		inside.Add(-1)
	})
	if err != nil || n != 1000 {
		t.Errorf("%d, %v", n, err)
	}
}

func wantedOnes(n int) (all []busylamp.Listed) {
	for i := range n {
		all = append(all, busylamp.Listed{Dialog: busylamp.DialogID{Entry: 1, ID: uint32(i)}})
	}
	return all
}

func noEvents([]busylamp.CallEvent) {}

// FuzzDetail: a dialog's strings come through byte for byte, whatever they are.
func FuzzDetail(f *testing.F) {
	f.Add("a@b", "sip:x@y", "sip:\xff@z")
	f.Fuzz(func(t *testing.T, callID, from, callee string) {
		r := &RPC{"test", true, func(context.Context, []byte) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(`{"result":{"h_entry":1,"h_id":2,"state":4,"from_uri":` + string(appendJSON(nil, from)) +
				`,"variables":[{"busylamp_callee":` + string(appendJSON(nil, callee)) + `}]}}`)), nil
		}}
		ev, err := NewTruth(r).detail(t.Context(), asked{dialog: busylamp.DialogID{Entry: 1, ID: 2}, callID: callID})
		if err != nil || ev.Caller != from || ev.Callee != callee || len(ev.CallID) > maxCallID || !strings.HasPrefix(callID, ev.CallID) {
			t.Fatalf("%+v, %v", ev, err)
		}
		if !json.Valid(latin1(request("dlg.dlg_list", []string{callID}))) {
			t.Fatal("request is no JSON")
		}
	})
}
