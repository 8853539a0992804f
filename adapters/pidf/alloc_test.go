package pidf_test

import (
	"bytes"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf"
)

// profiles are the ways to write a document.
var profiles = []struct {
	name      string
	document  func(pidf.Document) []byte
	append    func([]byte, pidf.Document) []byte
	defaultID string
}{
	{"audiocodes", pidf.AudioCodes, pidf.AppendAudioCodes, "0"},
	{"rpid", pidf.RPID, pidf.AppendRPID, "busylamp"},
}

var plain = pidf.Document{Entity: "sip:john.doe@example.com", DisplayName: "John Doe"}

func TestAppendExtendsItsBuffer(t *testing.T) {
	for _, p := range profiles {
		want := append([]byte("PUBLISH "), p.document(plain)...)
		if got := p.append([]byte("PUBLISH "), plain); !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%q\nwant\n%q", p.name, got, want)
		}
	}
}

// TestAllocations holds the budget: none into a buffer that is large enough,
// whatever has to be escaped, and one for the buffer of a plain document.
func TestAllocations(t *testing.T) {
	buffer := make([]byte, 0, 64<<10)
	for _, p := range profiles {
		for _, s := range append(nasty, plain.DisplayName) {
			d := pidf.Document{Entity: s, DisplayName: s, TupleID: s, Note: s}
			if n := testing.AllocsPerRun(100, func() { buffer = p.append(buffer[:0], d) }); n != 0 {
				t.Errorf("%s: %v allocations to append %q", p.name, n, s)
			}
		}
		if n := testing.AllocsPerRun(100, func() { buffer = p.document(plain) }); n != 1 {
			t.Errorf("%s: %v allocations for a document, want 1", p.name, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	umlauts := plain
	umlauts.DisplayName = "Jörg \"Müller & Söhne\""
	for _, p := range profiles {
		for _, c := range []struct {
			name string
			d    pidf.Document
		}{{"plain", plain}, {"escaped", umlauts}} {
			b.Run(p.name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				var buffer []byte
				for b.Loop() {
					buffer = p.append(buffer[:0], c.d)
				}
				b.SetBytes(int64(len(buffer)))
			})
		}
	}
}
