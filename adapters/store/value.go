package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/busylamp/busylamp"
)

// A record's key is its publisher, a zero byte and its presentity. Keys that begin with a
// zero byte are the store's own.
//
// Its value is a version byte, a byte of flags, and then, the fixed ones big-endian: which
// boot wrote it (8 bytes), the expiry in ms by the wall and since that boot (8 each), the
// life that it had when written and how long before the expiry it is to be refreshed (in
// ms), the state by its name, so that renumbering the states cannot change it, and the
// entity-tag, each with its length; last, the CRC-32C of key and value. Lengths and times
// of unfixed size are uvarints.
const (
	valueVersion = 1
	fixed        = 2 + 3*8

	flagUnsure  = 1
	flagClear   = 2
	flagSourced = 4

	maxPublisher  = 80
	maxPresentity = busylamp.MaxURI
	maxState      = 32
	maxTag        = 1024
	maxLife       = 1 << 40 // ms; some 34 years
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errCut = errors.New("value cut short")

// check says why a record cannot be stored.
func check(r *busylamp.Record) error {
	switch {
	case r.Publisher == "" || len(r.Publisher) > maxPublisher || strings.IndexByte(r.Publisher, 0) >= 0:
		return fmt.Errorf("record of publisher %.80q: want a name of 1 to %d bytes, none of them zero", r.Publisher, maxPublisher)
	case r.Presentity == "" || len(r.Presentity) > maxPresentity:
		return fmt.Errorf("record of presentity %.80q: want a URI of 1 to %d bytes, not %d", r.Presentity, maxPresentity, len(r.Presentity))
	case len(r.Tag) > maxTag:
		return fmt.Errorf("record of %s: an entity-tag of %d bytes; at most %d can be stored", r.Presentity, len(r.Tag), maxTag)
	}
	return nil
}

func appendKey(b []byte, r *busylamp.Record) []byte {
	b = append(b, r.Publisher...)
	b = append(b, 0)
	return append(b, r.Presentity...)
}

// appendValue writes a record's value; its times are from now on.
func appendValue(b, key []byte, r *busylamp.Record, now moment) []byte {
	begin := len(b)
	life := min(r.Expires.Milliseconds(), maxLife)
	lead := max(0, life-max(0, r.Refresh.Milliseconds()))
	var flags byte
	if r.Unsure {
		flags |= flagUnsure
	}
	if r.Clear {
		flags |= flagClear
	}
	if r.Sourced {
		flags |= flagSourced
	}
	end := now.plus(life)
	b = append(b, valueVersion, flags)
	b = binary.BigEndian.AppendUint64(b, end.boot)
	b = binary.BigEndian.AppendUint64(b, uint64(end.wall))
	b = binary.BigEndian.AppendUint64(b, uint64(end.up))
	b = binary.AppendUvarint(b, uint64(life))
	b = binary.AppendUvarint(b, uint64(lead))
	state := r.State.String()
	b = binary.AppendUvarint(b, uint64(len(state)))
	b = append(b, state...)
	b = binary.AppendUvarint(b, uint64(len(r.Tag)))
	b = append(b, r.Tag...)
	return binary.BigEndian.AppendUint32(b, checksum(key, b[begin:]))
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// stored is a record as it was read; its strings are still the store's bytes.
type stored struct {
	publisher, presentity, tag []byte
	state                      busylamp.State
	unsure, clear, sourced     bool
	end                        moment
	life, lead                 int64 // ms
}

// parse reads a key and its value. Whatever is not wholly what appendValue wrote is an error.
func parse(key, value []byte) (stored, error) {
	var s stored
	var ok bool
	if s.publisher, s.presentity, ok = bytes.Cut(key, []byte{0}); !ok || len(s.publisher) == 0 ||
		len(s.publisher) > maxPublisher || len(s.presentity) == 0 || len(s.presentity) > maxPresentity {
		return s, errors.New("the key names no publication")
	}
	if len(value) < fixed+4 {
		return s, errCut
	}
	body, sum := value[:len(value)-4], binary.BigEndian.Uint32(value[len(value)-4:])
	if body[0] != valueVersion {
		return s, fmt.Errorf("value of version %d; this program knows %d", body[0], valueVersion)
	}
	if checksum(key, body) != sum {
		return s, errors.New("the checksum does not match")
	}
	s.unsure, s.clear, s.sourced = body[1]&flagUnsure != 0, body[1]&flagClear != 0, body[1]&flagSourced != 0
	s.end = moment{boot: binary.BigEndian.Uint64(body[2:]), wall: int64(binary.BigEndian.Uint64(body[10:])),
		up: int64(binary.BigEndian.Uint64(body[18:]))}
	return s, s.parseRest(body[fixed:])
}

func (s *stored) parseRest(b []byte) error {
	var err error
	if s.life, b, err = cutNumber(b, maxLife); err != nil {
		return err
	}
	if s.lead, b, err = cutNumber(b, s.life); err != nil {
		return err
	}
	var state []byte
	if state, b, err = cutBytes(b, maxState); err != nil {
		return err
	}
	if err = s.state.UnmarshalText(state); err != nil {
		return err
	}
	if s.tag, b, err = cutBytes(b, maxTag); err != nil {
		return err
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes after the value's end", len(b))
	}
	return nil
}

func cutNumber(b []byte, most int64) (int64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errCut
	}
	if v > uint64(most) {
		return 0, nil, fmt.Errorf("a number of %d, over %d", v, most)
	}
	return int64(v), b[n:], nil
}

func cutBytes(b []byte, most int64) (cut, rest []byte, err error) {
	n, b, err := cutNumber(b, most)
	if err != nil {
		return nil, nil, err
	}
	if n > int64(len(b)) {
		return nil, nil, errCut
	}
	return b[:n], b[n:], nil
}

// left returns how many ms a record has, never more than when it was written: a wall clock
// that was set back does not make it eternal.
func (s *stored) left(now moment) int64 { return min(s.end.until(now), s.life) }

// doubtful says that a wall clock was set back since another boot wrote the record, so that
// nobody knows how long the server will have the publication: it is to be asked at once.
func (s *stored) doubtful(now moment) bool { return s.end.until(now) > s.life }

// record copies what was read; its times are from now on. names holds the publishers' names,
// which are few.
func (s *stored) record(now moment, names map[string]string) busylamp.Record {
	name, ok := names[string(s.publisher)]
	if !ok {
		name = string(s.publisher)
		names[name] = name
	}
	left := s.left(now)
	return busylamp.Record{Publisher: name, Presentity: busylamp.Presentity(s.presentity), Tag: string(s.tag),
		State: s.state, Unsure: s.unsure || s.doubtful(now), Clear: s.clear, Sourced: s.sourced,
		Expires: time.Duration(left) * time.Millisecond,
		Refresh: time.Duration(max(0, left-s.lead)) * time.Millisecond}
}
