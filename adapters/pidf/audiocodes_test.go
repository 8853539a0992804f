package pidf_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf"
)

// contentLength is what the vendor's manual says of its sample.
const contentLength = 489

// sample returns the document of the vendor's manual, as it is printed there,
// with LF at the end of every line.
func sample(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/audiocodes-john-doe.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// indentStartTag puts indent before the lines that continue the start tag of
// <presence>, which are the only ones that do not begin with '<'.
func indentStartTag(document, indent string) string {
	var out strings.Builder
	for line := range strings.Lines(document) {
		if !strings.HasPrefix(line, "<") {
			out.WriteString(indent)
		}
		out.WriteString(line)
	}
	return out.String()
}

// indentByLevel puts one tab before a line for each element that is open
// there.
func indentByLevel(document string) string {
	var out strings.Builder
	level := 0
	for line := range strings.Lines(document) {
		if strings.HasPrefix(line, "</") {
			level--
		}
		out.WriteString(strings.Repeat("\t", level))
		out.WriteString(line)
		opens := strings.HasPrefix(line, "<") && !strings.HasPrefix(line, "<?")
		if opens && !strings.Contains(line, "</") {
			level++
		}
	}
	return out.String()
}

func crlf(document string) string { return strings.ReplaceAll(document, "\n", "\r\n") }

// TestContentLengthOfSample holds the arithmetic in audiocodes.go to its word.
func TestContentLengthOfSample(t *testing.T) {
	printed := sample(t)
	open := strings.TrimSuffix(printed, "\n")
	for _, c := range []struct {
		how      string
		document string
		want     int
	}{
		{"LF, last line open", open, 464},
		{"LF", printed, 465},
		{"CRLF, last line open", crlf(open), 479},
		{"CRLF", crlf(printed), 481},
		{"CRLF, start tag by 2", crlf(indentStartTag(printed, "  ")), contentLength},
		{"LF, by level", indentByLevel(printed), contentLength},
		{"LF, start tag by 6", indentStartTag(printed, "      "), contentLength},
		{"LF, start tag by 2, one behind each line",
			strings.ReplaceAll(indentStartTag(printed, "  "), "\n", " \n"), contentLength},
	} {
		if got := len(c.document); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.how, got, c.want)
		}
	}
}

func TestAudioCodesIsTheSample(t *testing.T) {
	got := pidf.AudioCodes(pidf.Document{
		Entity:      "sip:john.doe@sfb.example",
		DisplayName: "John Doe",
	})
	want := crlf(indentStartTag(sample(t), "  "))
	if string(got) != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if len(got) != contentLength {
		t.Errorf("%d bytes, want %d", len(got), contentLength)
	}
}

func TestAudioCodesSaysOnThePhoneForEveryActivity(t *testing.T) {
	d := pidf.Document{Entity: "sip:john.doe@sfb.example", Note: "Do not disturb"}
	want := pidf.AudioCodes(d)
	for _, d.Activity = range append(activities(), 200) {
		if got := pidf.AudioCodes(d); !bytes.Equal(got, want) {
			t.Errorf("activity %d: got\n%s\nwant\n%s", d.Activity, got, want)
		}
	}
}

func TestAudioCodesLeavesOutWhatIsEmpty(t *testing.T) {
	d := pidf.Document{Entity: "sip:john.doe@sfb.example"}
	want := strings.Replace(crlf(indentStartTag(sample(t), "  ")),
		"<ci:display-name>John Doe</ci:display-name>\r\n", "", 1)
	if got := pidf.AudioCodes(d); string(got) != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	d.TupleID = "t0"
	want = strings.Replace(want, `<tuple id="0">`, `<tuple id="t0">`, 1)
	if got := pidf.AudioCodes(d); string(got) != want {
		t.Errorf("with a TupleID: got\n%q\nwant\n%q", got, want)
	}
}
