package kamailio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadNetstring(t *testing.T) {
	biggest := strings.Repeat("x", maxNetstring)
	in := "5:hello,0:,1:,,07:leading," + fmt.Sprintf("%d:%s,", maxNetstring, biggest)
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(in), "bytes": iotest.OneByteReader(strings.NewReader(in)), "late error": iotest.DataErrReader(strings.NewReader(in)),
	} {
		br := bufio.NewReaderSize(r, 16)
		var buf, payload []byte
		var err error
		for _, want := range []string{"hello", "", ",", "leading", biggest} {
			if payload, buf, err = readNetstring(br, buf); err != nil || string(payload) != want {
				t.Fatalf("%s: %.20q, %v; want %.20q", name, payload, err, want)
			}
		}
		if _, _, err = readNetstring(br, buf); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v at the end", name, err)
		}
	}
}

func TestReadNetstringRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"5":                              "unexpected EOF",
		"5:":                             "unexpected EOF",
		"5:hell":                         "unexpected EOF",
		"5:hello":                        "unexpected EOF",
		"5:hello;":                       "comma",
		"-5:":                            "in the length",
		"+5:hello,":                      "in the length",
		" 5:hello,":                      "in the length",
		":hello,":                        "in the length",
		"5 :hello,":                      "in the length",
		"0x5:hello,":                     "in the length",
		"65537:":                         "above",
		"10485760:":                      "above",
		"200000000000:":                  "above",
		"99999999999999999:":             "above",
		"00000000000000000000000005:abc": "above",
		"{\"json\":1}":                   "in the length",
	} {
		_, buf, err := readNetstring(bufio.NewReader(strings.NewReader(in)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", in, err, want)
		}
		if cap(buf) > maxNetstring+1 {
			t.Errorf("%q: took %d bytes", in, cap(buf))
		}
	}
	if _, _, err := readNetstring(bufio.NewReader(iotest.ErrReader(errors.New("broken"))), nil); err == nil || err.Error() != "broken" {
		t.Errorf("the reader's own error is lost: %v", err)
	}
}

func FuzzReadNetstring(f *testing.F) {
	for _, s := range []string{"5:hello,3:abc,", "-5:", "99999999999999999:", "200000000000:", "3:abc;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		var buf, payload []byte
		var err error
		var again []byte
		for n := 0; ; n++ {
			if payload, buf, err = readNetstring(r, buf); err != nil {
				break
			}
			again = fmt.Appendf(again, "%d:%s,", len(payload), payload)
		}
		if cap(buf) > maxNetstring+1 {
			t.Fatalf("took %d bytes", cap(buf))
		}
		// What was read, written again, is the beginning of the input but for leading zeros.
		if !bytes.Contains(in, []byte("0")) && !bytes.HasPrefix(in, again) {
			t.Fatalf("read %q from %q", again, in)
		}
		if errors.Is(err, io.EOF) && len(again) > len(in) {
			t.Fatalf("read more than there is")
		}
	})
}

func FuzzGuardForward(f *testing.F) {
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > maxFrame {
			return
		}
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := forward(w, payload); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		if got, _, err := readNetstring(bufio.NewReader(&b), nil); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}
