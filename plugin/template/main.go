// Command busylamp-source-template is a source to start from: presence is what a text file
// says in lines such as "sip:alice@example.com do-not-disturb writing the report".
package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/busylamp/busylamp/plugin"
)

var version = "dev" // set by the linker

func main() { plugin.Serve(&source{}) }

// source is its own configuration: the yaml tags are the keys.
type source struct {
	File     string        `yaml:"file"`
	Interval time.Duration `yaml:"interval"`
}

// Describe says what the source is, and which keys its section of the configuration has.
func (s *source) Describe() plugin.Description {
	return plugin.Description{
		Name: "template", Version: version, Summary: "presence from a text file",
		Serves: []string{`sip:.+@.+`, `tel:\+[0-9]+`}, Batch: 1000,
		Keys: []plugin.Key{{Name: "file", Doc: "the file to read: lines of URI, state, note", Required: true},
			{Name: "interval", Doc: "how often it is read", Default: "1s"}},
	}
}

// Configure reads the section. What it refuses names the key.
func (s *source) Configure(c plugin.Config) error {
	*s = source{Interval: time.Second}
	if err := c.Decode(s); err != nil || s.Interval >= 10*time.Millisecond {
		return err
	}
	return plugin.Errorf("interval", "is %s, which must be 10ms or more", s.Interval)
}

// Run states claims about those who are watched until the host is done.
func (s *source) Run(_ context.Context, host plugin.Host) error {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	watched := map[string]plugin.Claim{} // what was said last
	people, stands := s.read(nil)
	for said := (plugin.Connector{}); ; {
		if stands != said {
			host.Connector(stands)
			said = stands
		}
		for p, last := range watched {
			if now := people[p]; people != nil && (now.Availability != last.Availability || now.Note != last.Note || time.Until(last.Until) < time.Hour) {
				now.Presentity, now.Until = p, time.Now().Add(23*time.Hour) // a day is the most: said again before
				host.Claim(now)
				watched[p] = now
			}
		}
		select {
		case <-tick.C:
			people, stands = s.read(people)
		case r, ok := <-host.Requests():
			if !ok {
				return nil
			}
			for _, t := range r.Watch {
				watched[t.Presentity] = plugin.Claim{} // nothing said yet, or not to this asking
				host.Subscription(plugin.Subscription{Presentity: t.Presentity, State: plugin.Active})
			}
			for _, p := range r.Unwatch {
				delete(watched, p)
			}
		}
	}
}

var states = map[string]plugin.Availability{
	"available": plugin.Available, "away": plugin.Away, "busy": plugin.Busy, "do-not-disturb": plugin.DoNotDisturb,
}

// read returns what the file says of people, or what it said before if nobody knows: then the
// host lets the claims lapse. It says how the source stands, too.
func (s *source) read(before map[string]plugin.Claim) (map[string]plugin.Claim, plugin.Connector) {
	text, err := os.ReadFile(s.File)
	if err != nil {
		return before, plugin.Connector{State: plugin.ConnectionError, Reason: err.Error()}
	}
	people, stands := map[string]plugin.Claim{}, plugin.Connector{State: plugin.Up}
	for _, line := range strings.Split(string(text), "\n") {
		if word := strings.Fields(line); len(word) > 1 && states[word[1]] != 0 {
			people[word[0]] = plugin.Claim{Availability: states[word[1]], Note: strings.Join(word[2:], " ")}
		} else if len(word) > 0 {
			stands.Reason = "a line is not URI, state, note: " + line
		}
	}
	return people, stands
}
