package kamailio

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/busylamp/busylamp"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// told is all that a frame says.
type told struct {
	frame
	events []busylamp.CallEvent
}

func decodeFrame(payload []byte) (told, error) {
	var d decoder
	d.begin([][]byte{payload})
	f, err := d.frame(payload, "")
	return told{f, d.events}, err
}

func TestDecodeFrame(t *testing.T) {
	alice, bob, id := b64("sip:alice@example.com"), b64("sip:bob@example.com"), b64("a\"b\\\xff@x")
	d := busylamp.DialogID{Entry: 4095, ID: 4294967295}
	call := busylamp.CallEvent{Dialog: d, Stage: busylamp.Confirmed, Seq: 7,
		Caller: "sip:alice@example.com", Callee: "sip:bob@example.com", CallID: "a\"b\\\xff@x"}
	early := call
	early.Stage = busylamp.Early
	for _, c := range []struct {
		name, payload string
		want          told
	}{
		{"nothing in it", "busylamp/1 12.5", told{frame: frame{epoch: "12.5"}}},
		{"nothing in it, with a newline", "busylamp/1 12.5\n", told{frame: frame{epoch: "12.5"}}},
		{"heartbeat", "busylamp/1 12.5\nh 41 -", told{frame: frame{epoch: "12.5", given: 41, heartbeat: true}}},
		{"heartbeat that knows early", "busylamp/1 12.5\nh 41 early", told{frame: frame{epoch: "12.5", given: 41, heartbeat: true, early: true}}},
		{"heartbeat of 5.6.3 after the wrap", "busylamp/1 1\nh -2147483648 -", told{frame: frame{epoch: "1", given: 1 << 31, heartbeat: true}}},
		{"call", "busylamp/1 1\nc 7 4095:4294967295 " + alice + " " + bob + " " + id, told{frame: frame{epoch: "1"}, events: []busylamp.CallEvent{call}}},
		{"early", "busylamp/1 1\ne 7 4095:4294967295 " + alice + " " + bob + " " + id, told{frame: frame{epoch: "1"}, events: []busylamp.CallEvent{early}}},
		{"gaps", "busylamp/1 1\nc 7 4095:4294967295 - - -", told{frame: frame{epoch: "1"},
			events: []busylamp.CallEvent{{Dialog: d, Stage: busylamp.Confirmed, Seq: 7}}}},
		{"end", "busylamp/1 1\nx -1 0:0", told{frame: frame{epoch: "1"}, events: []busylamp.CallEvent{{Stage: busylamp.Ended, Seq: 1<<32 - 1}}}},
		{"several", "busylamp/1 1\nx 1 1:2\nh 3 -\nx 2 1:3\n", told{frame: frame{epoch: "1", given: 3, heartbeat: true}, events: []busylamp.CallEvent{
			{Dialog: busylamp.DialogID{Entry: 1, ID: 2}, Stage: busylamp.Ended, Seq: 1},
			{Dialog: busylamp.DialogID{Entry: 1, ID: 3}, Stage: busylamp.Ended, Seq: 2}}}},
	} {
		got, err := decodeFrame([]byte(c.payload))
		if err != nil || got.err != nil || got.frame != c.want.frame || !slices.Equal(got.events, c.want.events) {
			t.Errorf("%s: got %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
}

func TestDecodeFrameRefuses(t *testing.T) {
	for _, payload := range []string{
		"", "\n", "busylamp/1", "busylamp/1 ", "busylamp/1 \nh 1 -", "busylamp/2 1\nh 1 -", `{"event":"x"}`,
		"busylamp/1 12a\nh 1 -", "busylamp/1 1 2\nh 1 -", "busylamp/1 " + strings.Repeat("1", maxEpoch+1),
		"busylamp/1 1\r\nh 1 -", "busylamp/1 1\n" + strings.Repeat("h 1 -\n", maxEvents+1),
	} {
		if f, err := decodeFrame([]byte(payload)); err == nil {
			t.Errorf("%.60q: no error, but %+v", payload, f)
		}
	}
}

// TestDecodeFrameBadLines: a bad line costs itself alone, and is counted.
func TestDecodeFrameBadLines(t *testing.T) {
	long := b64(strings.Repeat("x", 300))
	for _, line := range []string{
		"", " ", "h", "h 1", "h  -", "h 1 - -", "h x -", "h 1.5 -", "h 99999999999999999999 -", "hh 1 -",
		"x 1", "x 1 1", "x 1 1:", "x 1 :1", "x 1 -1:1", "x 1 1:-1", "x 1 1:4294967296", "x 1 1:1:1", "x 1 1:1 -",
		"c 1 1:1", "c 1 1:1 - -", "c 1 1:1 - - - -", "c 1 1:1 ! - -", "c 1 1:1 - YQ -", "c 1 1:1 - - YR==",
		"c 1 1:1 " + long + " - -", "c 1 1:1 - " + long + " -", "e 1 1:1 - - " + long, "z 1 1:1", "\x00 1 1:1",
	} {
		f, err := decodeFrame([]byte("busylamp/1 1\nx 1 1:1\n" + line + "\nx 2 1:2\n"))
		if err != nil || f.bad != 1 || f.err == nil || len(f.events) != 2 {
			t.Errorf("%.60q: %+v, %v", line, f, err)
		}
	}
}

func TestAppendField(t *testing.T) {
	for n := range 300 {
		s := strings.Repeat("\xfe", n)
		got, err := appendField(nil, []byte(b64(s)), busylamp.MaxURI+1)
		switch {
		case n <= busylamp.MaxURI+1 && (err != nil || string(got) != s):
			t.Errorf("%d bytes: %q, %v", n, got, err)
		case n > busylamp.MaxURI+3 && err == nil:
			t.Errorf("%d bytes are taken", n)
		}
	}
	if got, err := appendField([]byte("a"), []byte("-"), 9); string(got) != "a" || err != nil {
		t.Errorf("-: %q, %v", got, err)
	}
}

func TestParseSeq(t *testing.T) {
	for in, want := range map[string]uint32{
		"0": 0, "1": 1, "2147483647": 1<<31 - 1, "-2147483648": 1 << 31, "2147483648": 1 << 31, "-1": 1<<32 - 1,
		"4294967295": 1<<32 - 1, "4294967296": 0, "9223372036854775807": 1<<32 - 1,
	} {
		if got, err := parseSeq([]byte(in)); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-", "x", "1 ", "0x1", "1e3", "9223372036854775808", strings.Repeat("9", 5000)} {
		if _, err := parseSeq([]byte(in)); err == nil {
			t.Errorf("%.40q: no error", in)
		} else if len(err.Error()) > 200 {
			t.Errorf("%.40q: an error of %d bytes", in, len(err.Error()))
		}
	}
}

// encode writes an event as busylamp.cfg does.
func encode(ev busylamp.CallEvent) string {
	field := func(s string) string {
		if s == "" {
			return "-"
		}
		return b64(s)
	}
	if ev.Stage == busylamp.Ended {
		return fmt.Sprintf("x %d %v", int32(ev.Seq), ev.Dialog)
	}
	kind := "c"
	if ev.Stage == busylamp.Early {
		kind = "e"
	}
	return fmt.Sprintf("%s %d %v %s %s %s", kind, int32(ev.Seq), ev.Dialog, field(ev.Caller), field(ev.Callee), field(ev.CallID))
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add([]byte("busylamp/1 1.2\nh 5 early\nx -3 7:8\nc 1 1:2 " + b64("a") + " - " + b64("c")))
	f.Add([]byte("busylamp/1 1\n\n\n"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		fr, err := decodeFrame(payload)
		if err != nil {
			return
		}
		if len(fr.events)+fr.bad > maxEvents || (fr.bad > 0) != (fr.err != nil) {
			t.Fatalf("%d events, %d bad: %v", len(fr.events), fr.bad, fr.err)
		}
		// What was understood says the same when it is written again.
		text := magic + fr.epoch
		for _, ev := range fr.events {
			if len(ev.Caller) > busylamp.MaxURI+3 || len(ev.Callee) > busylamp.MaxURI+3 || len(ev.CallID) > maxCallID+2 {
				t.Fatalf("fields too long: %+v", ev)
			}
			text += "\n" + encode(ev)
		}
		again, err := decodeFrame([]byte(text))
		if err != nil || again.bad != 0 || !reflect.DeepEqual(again.events, fr.events) {
			t.Fatalf("%+v\nagain %+v, %v", fr, again, err)
		}
	})
}

func FuzzAppendField(f *testing.F) {
	f.Add([]byte("YWJj"), 128)
	f.Add([]byte("-"), 0)
	f.Fuzz(func(t *testing.T, b []byte, most int) {
		most = min(max(most, 0), busylamp.MaxURI+1)
		if s, err := appendField(nil, b, most); err == nil && len(s) > most+2 {
			t.Fatalf("%d bytes where %d are the most", len(s), most)
		}
	})
}

func FuzzParseSeq(f *testing.F) {
	f.Add([]byte("-2147483648"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseSeq(b)
		if err != nil {
			return
		}
		if again, err := parseSeq(fmt.Append(nil, int32(n))); err != nil || again != n {
			t.Fatalf("%q: %d, then %d, %v", b, n, again, err)
		}
	})
}
