package pidf

import "unicode/utf8"

// appendEscaped appends s so that it can stand both as character data and in
// an attribute value between double quotes, and is read back as it was but
// for what XML cannot hold (see escapeAt). It copies in runs and does not
// allocate unless dst has to grow.
func appendEscaped(dst []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		escape, width := escapeAt(s[i:])
		if escape != "" {
			dst = append(dst, s[start:i]...)
			dst = append(dst, escape...)
			start = i + width
		}
		i += width
	}
	return append(dst, s[start:]...)
}

// escapeAt returns what to write for the first character of s, or "" if it can
// stand as it is, and how many bytes of s that character takes.
//
// Beyond the delimiters this concerns white space, which a reader would
// turn into spaces in an attribute and into LF at a line's end (XML 1.0,
// sections 2.11 and 3.3.3), and what is no Char at all (section 2.2), whose
// place U+FFFD takes: not even a character reference to it is allowed.
func escapeAt(s string) (escape string, width int) {
	if c := s[0]; c < utf8.RuneSelf {
		return escapeASCII(c), 1
	}
	r, width := utf8.DecodeRuneInString(s)
	if r == '\uFFFE' || r == '\uFFFF' || r == utf8.RuneError && width == 1 {
		return "\uFFFD", width
	}
	return "", width
}

func escapeASCII(c byte) string {
	switch {
	case c == '&':
		return "&amp;"
	case c == '<':
		return "&lt;"
	case c == '>': // not for its own sake, but "]]>" is forbidden in text
		return "&gt;"
	case c == '"':
		return "&quot;"
	case c >= ' ':
		return ""
	case c == '\t':
		return "&#9;"
	case c == '\n':
		return "&#10;"
	case c == '\r':
		return "&#13;"
	}
	return "\uFFFD"
}

// orDefault returns s, or def if s is empty.
func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
