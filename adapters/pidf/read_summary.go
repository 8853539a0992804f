package pidf

import "time"

// Availability is how far a presentity can be reached. The values are in the order of
// plugin.Availability.
type Availability uint8

// The availabilities, those that are stronger last.
const (
	SeenUnknown Availability = iota
	SeenOffline
	SeenAvailable
	SeenAway
	SeenBusy
	SeenDoNotDisturb
)

var availabilityNames = [...]string{"unknown", "offline", "available", "away", "busy", "do-not-disturb"}

// String returns the name.
func (a Availability) String() string {
	return availabilityNames[min(int(a), len(availabilityNames)-1)]
}

// Summary is what a watcher would show of a presentity. PIDF and RPID have no word for calls
// that are forwarded.
type Summary struct {
	Availability Availability
	// Activity is by RFC 4480's names, but "presenting" for its presentation, and "ringing",
	// for which it has none; "" if none tells more than the availability.
	Activity    string
	Note        string
	Device      string // of the tuple that says so
	OutOfOffice bool   // on vacation, or away for good
	Since       time.Time
	Until       time.Time // when it ends (RFC 4480 section 3.1); zero: not known
}

// Summary says what the document amounts to at a time, and whether it says anything.
//
// The strongest activity of all persons and tuples counts: do-not-disturb; then what makes
// busy: presenting, on-the-phone, meeting, busy, others, ringing; then what means away, and
// then the rest. Of equal ones it is the newest. An activity outside of its From and Until, and
// a tuple about somebody else, do not count. Some activities are told by a note alone: see
// apart.
//
// Without an activity that makes busy or away, the tuples decide: available if one of them is
// open, offline if all are closed. Who is away and has no open tuple is offline, but busy
// stays busy: Asterisk closes the tuple of a phone that takes no second call.
//
// A document without tuples and persons, which is what a server sends of somebody whom nobody
// publishes, or that is left by [Seen.Without], and one without <basic> and activities, say
// nothing (false): the presentity may be offline, or nobody may know.
func (s Seen) Summary(now time.Time) (Summary, bool) {
	var best Summary
	var rank uint8
	reach, away := SeenUnknown, false
	consider := func(d Doing, device string) {
		one, r := d.summary(now, s.notes(d))
		one.Device = device
		away = away || one.OutOfOffice
		if best.before(one, rank, r) {
			best, rank = one, r
		}
	}
	for _, p := range s.Persons {
		consider(p.Doing, "")
	}
	for _, t := range s.Tuples {
		if t.Relationship != "" && t.Relationship != "self" {
			continue
		}
		if t.HasBasic {
			reach = max(reach, SeenOffline)
		}
		if t.Open {
			reach = SeenAvailable
		}
		consider(t.Doing, t.Device)
	}
	best.OutOfOffice = away
	if plain[best.Activity] {
		best.Activity = ""
	}
	switch {
	case best.Availability == SeenAvailable || best.Availability == SeenUnknown:
		best.Availability = max(best.Availability, reach)
		if reach == SeenOffline {
			best.Availability = SeenOffline
		}
	case best.Availability == SeenAway && reach == SeenOffline:
		best.Availability = SeenOffline
	}
	return best, best.Availability != SeenUnknown
}

// before tells whether another summary is to be shown rather than this one. Of two that say
// nothing of activities it is the one with a note.
func (s Summary) before(o Summary, rank, other uint8) bool {
	switch {
	case s.Availability != o.Availability:
		return s.Availability < o.Availability
	case rank != other:
		return rank < other
	case (s.Activity == "") != (o.Activity == ""):
		return s.Activity == ""
	case (s.Note == "") != (o.Note == ""):
		return s.Note == ""
	}
	return s.Since.Before(o.Since)
}

// notes returns those that belong to what is said in a tuple or of a person: its own, or else
// the document's (Asterisk), or else those of the only tuple (Jitsi).
func (s Seen) notes(d Doing) []string {
	switch {
	case len(d.Notes) > 0:
		return d.Notes
	case len(s.Notes) > 0:
		return s.Notes
	case len(s.Tuples) == 1:
		return s.Tuples[0].Notes
	}
	return nil
}

// summary returns what the strongest activity amounts to, and its rank. Without activities
// that count, the availability is unknown.
func (d Doing) summary(now time.Time, notes []string) (Summary, uint8) {
	var s Summary
	var rank uint8
	if len(notes) > 0 {
		s.Note = notes[0]
	}
	s.Since = d.Timestamp
	if !d.From.IsZero() {
		s.Since = d.From
	}
	if s.Since.After(now) {
		s.Since = now // its clock is ahead of ours
	}
	if d.From.After(now) || !d.Until.IsZero() && !d.Until.After(now) {
		return s, 0
	}
	s.Until = d.Until
	for _, activity := range d.Activities {
		activity = refined(activity, notes)
		m := activities[activity]
		s.OutOfOffice = s.OutOfOffice || m.outOfOffice
		if s.Activity == "" || m.availability > s.Availability || m.availability == s.Availability && m.rank > rank {
			s.Activity, s.Availability, rank = orDefault(m.name, activity), m.availability, m.rank
		}
	}
	return s, rank
}
