package store

import (
	"bytes"
	"testing"
	"time"

	"github.com/busylamp/busylamp"
	faults "github.com/busylamp/busylamp/integration/record"
)

func encoded(r busylamp.Record) (key, value []byte) {
	key = appendKey(nil, &r)
	return key, appendValue(nil, key, &r, moment{boot: 0xfeedfacecafebeef, up: 1000, wall: 1 << 40})
}

// TestDamage: a value that was cut at any length, or that has any bit flipped, or that is
// under another key, is never taken for a record.
func TestDamage(t *testing.T) {
	t.Parallel()
	key, value := encoded(record(1))
	if _, err := parse(key, value); err != nil {
		t.Fatal(err)
	}
	for n := range value {
		if _, err := parse(key, value[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes: taken", n, len(value))
		}
	}
	for i := range 8 * len(value) {
		flipped := bytes.Clone(value)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := parse(key, flipped); err == nil {
			t.Errorf("bit %d flipped: taken", i)
		}
	}
	for i := range 8 * len(key) {
		flipped := bytes.Clone(key)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := parse(flipped, value); err == nil {
			t.Errorf("bit %d of the key flipped: taken", i)
		}
	}
	if _, err := parse(key, append(bytes.Clone(value), 0)); err == nil {
		t.Error("a byte too many: taken")
	}
	faults.Fault(t, "disk-corrupt", len(value)+8*len(value)+8*len(key), "a record cut at each of %d lengths, each of its %d bits flipped, and each of its key's %d: none was taken for a record",
		len(value), 8*len(value), 8*len(key))
}

// TestBadContents: a value whose checksum is right, but which we would never write.
func TestBadContents(t *testing.T) {
	t.Parallel()
	key, value := encoded(record(1))
	end := len(value) - 4
	seal := func(body []byte) []byte {
		sum := checksum(key, body)
		return append(body, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	}
	for name, change := range map[string]func(b []byte) []byte{
		"version":  func(b []byte) []byte { b[0] = 2; return b },
		"state":    func(b []byte) []byte { return bytes.Replace(b, []byte("on-the-phone"), []byte("on-the-river"), 1) },
		"trailing": func(b []byte) []byte { return append(b, 0) },
		"life":     func(b []byte) []byte { return append(b[:fixed], bytes.Repeat([]byte{0xff}, 20)...) },
		"tag":      func(b []byte) []byte { return b[:len(b)-1] },
	} {
		if _, err := parse(key, seal(change(bytes.Clone(value[:end])))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzParse: whatever the disk holds, reading it neither panics nor yields a record beyond
// the bounds.
func FuzzParse(f *testing.F) {
	key, value := encoded(record(1))
	f.Add(key, value[:len(value)-4])
	f.Add([]byte("a\x00b"), []byte{valueVersion})
	f.Fuzz(func(t *testing.T, key, body []byte) {
		sum := checksum(key, body) // else nothing would get past it
		value := append(bytes.Clone(body), byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		for _, v := range [][]byte{value, body} {
			s, err := parse(key, v)
			if err != nil {
				continue
			}
			now := moment{boot: s.end.boot, up: 1 << 30, wall: 1 << 41}
			r := s.record(now, map[string]string{})
			if len(r.Publisher) > maxPublisher || len(r.Presentity) > maxPresentity || len(r.Tag) > maxTag ||
				r.Expires > maxLife*time.Millisecond || r.Refresh < 0 {
				t.Errorf("out of bounds: %+v", r)
			}
			if !bytes.Equal(appendKey(nil, &r), key) {
				t.Errorf("key %q makes the record %+v", key, r)
			}
		}
	})
}
