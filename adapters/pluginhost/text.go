package pluginhost

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes one line of valid UTF-8 of what a plugin says, with at most so many bytes.
func clean(s string, most int) string {
	if len(s) > most+utf8.UTFMax {
		s = s[:most+utf8.UTFMax]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError || r == '\u2028' || r == '\u2029' || unicode.In(r, unicode.Bidi_Control):
			return -1
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return strings.TrimSpace(s)
}
