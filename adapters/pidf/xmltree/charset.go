package xmltree

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// declaration finds the encoding in an XML declaration (XML 1.0 section 4.3.3).
var declaration = regexp.MustCompile(`^<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']`)

// toUTF8 returns the text in UTF-8. Bytes that are not UTF-8 in a text that says it is become
// U+FFFD: a phone that has a name in another charset must not cost its user's presence.
func toUTF8(body []byte) ([]byte, error) {
	body = bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\uFEFF")), " \t\r\n")
	m := declaration.FindSubmatch(body)
	if m == nil {
		return bytes.ToValidUTF8(body, []byte("\uFFFD")), nil
	}
	switch strings.ToLower(string(m[1])) {
	case "utf-8", "utf8":
		return bytes.ToValidUTF8(body, []byte("\uFFFD")), nil
	case "us-ascii", "ascii", "iso-8859-1", "iso8859-1", "latin1", "windows-1252", "cp1252":
		// Asterisk's chan_sip says ISO-8859-1 and writes what its configuration holds, which
		// is UTF-8 these days. No Latin text of more than ASCII is UTF-8 by accident.
		if utf8.Valid(body) {
			return body, nil
		}
		return fromLatin(body), nil
	}
	return nil, fmt.Errorf("the encoding %q is not known: write UTF-8 or ISO-8859-1", m[1])
}

// latin are bytes 0x80 to 0x9F of windows-1252, which what says ISO-8859-1 is commonly
// written in; those that it leaves free are as in ISO-8859-1.
var latin = [32]rune{
	0x20AC, 0x81, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D, 0x017D, 0x8F,
	0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D, 0x017E, 0x0178,
}

func fromLatin(body []byte) []byte {
	out := make([]byte, 0, len(body)+len(body)/8)
	for _, c := range body {
		r := rune(c)
		if c >= 0x80 && c < 0xA0 {
			r = latin[c-0x80]
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}
