package kamailio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/busylamp/busylamp"
)

// Limits of what busylamp.cfg sends; more is not from it.
const (
	maxFrame  = 8 << 10 // bytes; Kamailio's print buffer, which the snippet stays below
	maxEvents = 256     // lines of one frame
	maxEpoch  = 64      // bytes
	maxCallID = 128     // bytes, cut by the snippet
)

// magic begins every frame from busylamp.cfg; frames without it are somebody else's.
const magic = "busylamp/1 "

// register is the frame that asks for the events (see busylamp.cfg, BUSYLAMP_EVAPI_MESSAGE).
const register = "busylamp/1 register"

// frame is a decoded evapi frame, but for its events.
type frame struct {
	epoch string
	// given is the last number that the proxy had given out when it wrote the frame's
	// heartbeat, if it has one.
	given     uint32
	heartbeat bool
	early     bool // the snippet tells of early dialogs, too
	bad       int  // lines that could not be read
	err       error
}

// decoder takes the events out of a batch of frames. All their text is in one string: who
// keeps a part of it copies that (see [busylamp.CallEvent]).
type decoder struct {
	events []busylamp.CallEvent
	text   strings.Builder
	room   int // bytes that the text can come to
}

// begin turns to a batch. What was decoded before is left to whoever has it.
func (d *decoder) begin(batch [][]byte) {
	lines, size := 0, 0
	for _, payload := range batch {
		lines += min(bytes.Count(payload, []byte{'\n'}), maxEvents)
		size += len(payload)
	}
	d.events = make([]busylamp.CallEvent, 0, lines)
	d.text.Reset()
	d.room = base64.StdEncoding.DecodedLen(size)
}

// frame reads a frame's payload and appends its events. A line that cannot be read is left
// out, counted in bad, and the last such error is kept; an error is returned for a frame that
// is none. The epoch is likely to be the one that is known already.
func (d *decoder) frame(payload []byte, known string) (frame, error) {
	head, rest, _ := bytes.Cut(payload, []byte{'\n'})
	epoch, ok := bytes.CutPrefix(head, []byte(magic))
	if !ok {
		return frame{}, fmt.Errorf("frame begins with %.40q, not with %q", payload, magic)
	}
	if !isEpoch(epoch) {
		return frame{}, fmt.Errorf("frame has the epoch %.80q: want digits and a point", epoch)
	}
	f := frame{epoch: known}
	if string(epoch) != known {
		f.epoch = string(epoch)
	}
	for n := 0; len(rest) > 0; n++ {
		if n == maxEvents {
			return frame{}, fmt.Errorf("frame has more than %d lines", maxEvents)
		}
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if err := d.line(&f, line); err != nil {
			f.bad++
			f.err = fmt.Errorf("line %.80q: %w", line, err)
		}
	}
	return f, nil
}

func isEpoch(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxEpoch
}

var errFields = errors.New("wrong number of fields")

func (d *decoder) line(f *frame, line []byte) error {
	var fields [6][]byte
	n := 0
	for rest, more := line, true; more; n++ {
		if n == len(fields) {
			return errFields
		}
		fields[n], rest, more = bytes.Cut(rest, []byte{' '})
	}
	if len(fields[0]) != 1 || n < 3 {
		return errFields
	}
	seq, err := parseSeq(fields[1])
	if err != nil {
		return err
	}
	switch kind := fields[0][0]; {
	case kind == 'h' && n == 3:
		f.given, f.heartbeat, f.early = seq, true, string(fields[2]) == "early"
		return nil
	case kind == 'x' && n == 3:
		return d.add(busylamp.CallEvent{Stage: busylamp.Ended, Seq: seq}, fields[2])
	case (kind == 'c' || kind == 'e') && n == 6:
		ev := busylamp.CallEvent{Stage: busylamp.Confirmed, Seq: seq}
		if kind == 'e' {
			ev.Stage = busylamp.Early
		}
		if err := d.parties(&ev, fields[3], fields[4], fields[5]); err != nil {
			return err
		}
		return d.add(ev, fields[2])
	case kind == 'h', kind == 'x', kind == 'c', kind == 'e':
		return errFields
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
}

func (d *decoder) add(ev busylamp.CallEvent, dialog []byte) error {
	entry, id, _ := bytes.Cut(dialog, []byte{':'})
	e, err1 := strconv.ParseUint(string(entry), 10, 32)
	i, err2 := strconv.ParseUint(string(id), 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("dialog %.40q: want h_entry:h_id", dialog)
	}
	ev.Dialog = busylamp.DialogID{Entry: uint32(e), ID: uint32(i)}
	d.events = append(d.events, ev)
	return nil
}

// parseSeq reads a sequence number: Kamailio 5.6 counts in 32 bits with a sign, 6.x in
// 64. Both are the same modulo 2^32.
func parseSeq(b []byte) (uint32, error) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("sequence number %.40q: %w", b, errors.Unwrap(err))
	}
	return uint32(n), nil
}

// parties decodes who calls whom.
func (d *decoder) parties(ev *busylamp.CallEvent, caller, callee, callID []byte) error {
	var buf [2*(busylamp.MaxURI+8) + maxCallID + 8]byte
	a, err := appendField(buf[:0], caller, busylamp.MaxURI+1)
	if err != nil {
		return fmt.Errorf("caller: %w", err)
	}
	b, err := appendField(a, callee, busylamp.MaxURI+1)
	if err != nil {
		return fmt.Errorf("callee: %w", err)
	}
	c, err := appendField(b, callID, maxCallID)
	if err != nil {
		return fmt.Errorf("Call-ID: %w", err)
	}
	if d.text.Cap() == 0 {
		d.text.Grow(d.room)
	}
	begin := d.text.Len()
	d.text.Write(c)
	all := d.text.String()[begin:]
	ev.Caller, ev.Callee, ev.CallID = all[:len(a)], all[len(a):len(b)], all[len(b):]
	return nil
}

// appendField decodes base64 of at most so many bytes; "-" is an empty field.
func appendField(dst, b []byte, most int) ([]byte, error) {
	if len(b) == 1 && b[0] == '-' {
		return dst, nil
	}
	if base64.StdEncoding.DecodedLen(len(b)) > most+2 {
		return nil, fmt.Errorf("%d bytes of base64: at most %d bytes are sent", len(b), most)
	}
	return strict.AppendDecode(dst, b)
}

// strict takes one spelling of each field alone.
var strict = base64.StdEncoding.Strict()
