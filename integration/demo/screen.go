package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/busylamp/busylamp/integration/stack"
)

// screen writes the timeline: the time, a lane for each user, and what happens. On a
// terminal the lamps are coloured (unless NO_COLOR is set), elsewhere they are words.
type screen struct {
	to     *os.File
	tty    bool
	colour bool
	began  time.Time
	lamps  map[string]lamp
}

// lamp is what somebody's lamp shows.
type lamp string

const (
	free lamp = "free"
	busy lamp = "BUSY"
	dnd  lamp = "DND"
)

// lampOf returns what a watcher is told to show.
func lampOf(s stack.Sighting) lamp {
	switch {
	case s.OnThePhone:
		return busy
	case strings.HasSuffix(stack.Person(s.Document), "Do not disturb"):
		return dnd
	}
	return free
}

func newScreen(to *os.File) *screen {
	info, err := to.Stat()
	tty := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	out := &screen{to: to, tty: tty, colour: tty && os.Getenv("NO_COLOR") == "", lamps: make(map[string]lamp)}
	for _, user := range users {
		out.lamps[user] = free
	}
	return out
}

// The colours are those that every terminal has.
func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) bold(text string) string { return s.paint("1", text) }
func (s *screen) dim(text string) string  { return s.paint("2", text) }
func (s *screen) good(text string) string { return s.paint("1;32", text) }
func (s *screen) bad(text string) string  { return s.paint("1;31", text) }

func (s *screen) line(format string, args ...any) {
	fmt.Fprintln(s.to, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// part tells of something that has been started.
func (s *screen) part(name, what string) {
	s.line("  %s  %s", s.bold(fmt.Sprintf("%-15s", name)), what)
}

// laneWidth is what a lamp and its word take, and a gap.
const laneWidth = 9

// head begins the timeline.
func (s *screen) head() {
	s.began = time.Now()
	s.line("")
	names := ""
	for _, user := range users {
		names += fmt.Sprintf("%-*s", laneWidth, user)
	}
	s.line("  %8s   %s", "time", s.bold(names))
}

// row writes one line of the timeline.
func (s *screen) row(at time.Time, format string, args ...any) {
	lanes := ""
	for _, user := range users {
		lanes += s.lamp(s.lamps[user])
	}
	s.line("  %s   %s%s", s.dim(fmt.Sprintf("%6.2f s", at.Sub(s.began).Seconds())), lanes, fmt.Sprintf(format, args...))
}

// lamp returns a lamp, laneWidth wide.
func (s *screen) lamp(l lamp) string {
	word, code, sign := string(l), "31", "●"
	if l == free {
		code, sign = "32", "○"
	}
	if s.colour {
		sign = "●"
	}
	gap := strings.Repeat(" ", laneWidth-len(word))
	if !s.tty {
		return word + gap
	}
	return s.paint(code, sign+" "+word) + gap[2:]
}

// ms writes a duration as people compare them.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
