package kamailio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

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

// frame is a decoded evapi frame.
type frame struct {
	epoch  string
	events []busylamp.CallEvent
	// given is the last number that the proxy had given out when it wrote the frame's
	// heartbeat, if it has one.
	given     uint32
	heartbeat bool
	early     bool // the snippet tells of early dialogs, too
	bad       int  // lines that could not be read
	err       error
}

// decodeFrame reads a frame's payload. A line that cannot be read is left out, counted in
// bad, and the last such error is kept; an error is returned for a frame that is none.
func decodeFrame(payload []byte) (frame, error) {
	head, rest, _ := bytes.Cut(payload, []byte{'\n'})
	epoch, ok := bytes.CutPrefix(head, []byte(magic))
	if !ok {
		return frame{}, fmt.Errorf("frame begins with %.40q, not with %q", payload, magic)
	}
	if !isEpoch(epoch) {
		return frame{}, fmt.Errorf("frame has the epoch %.80q: want digits and a point", epoch)
	}
	f := frame{epoch: string(epoch)}
	for n := 0; len(rest) > 0; n++ {
		if n == maxEvents {
			return frame{}, fmt.Errorf("frame has more than %d lines", maxEvents)
		}
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if err := f.decodeLine(line); err != nil {
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

func (f *frame) decodeLine(line []byte) error {
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
		return f.add(busylamp.CallEvent{Stage: busylamp.Ended, Seq: seq}, fields[2])
	case (kind == 'c' || kind == 'e') && n == 6:
		ev := busylamp.CallEvent{Stage: busylamp.Confirmed, Seq: seq}
		if kind == 'e' {
			ev.Stage = busylamp.Early
		}
		if ev.Caller, err = decodeField(fields[3], busylamp.MaxURI+1); err != nil {
			return fmt.Errorf("caller: %w", err)
		}
		if ev.Callee, err = decodeField(fields[4], busylamp.MaxURI+1); err != nil {
			return fmt.Errorf("callee: %w", err)
		}
		if ev.CallID, err = decodeField(fields[5], maxCallID); err != nil {
			return fmt.Errorf("Call-ID: %w", err)
		}
		return f.add(ev, fields[2])
	case kind == 'h', kind == 'x', kind == 'c', kind == 'e':
		return errFields
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
}

func (f *frame) add(ev busylamp.CallEvent, dialog []byte) error {
	entry, id, _ := bytes.Cut(dialog, []byte{':'})
	e, err1 := strconv.ParseUint(string(entry), 10, 32)
	i, err2 := strconv.ParseUint(string(id), 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("dialog %.40q: want h_entry:h_id", dialog)
	}
	ev.Dialog = busylamp.DialogID{Entry: uint32(e), ID: uint32(i)}
	f.events = append(f.events, ev)
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

// decodeField reads base64 of at most so many bytes; "-" is an empty field.
func decodeField(b []byte, most int) (string, error) {
	if len(b) == 1 && b[0] == '-' {
		return "", nil
	}
	if base64.StdEncoding.DecodedLen(len(b)) > most+2 {
		return "", fmt.Errorf("%d bytes of base64: at most %d bytes are sent", len(b), most)
	}
	var buf [busylamp.MaxURI + 8]byte
	n, err := base64.StdEncoding.Strict().Decode(buf[:], b)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
