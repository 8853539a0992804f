package pidf

import "strings"

// meaning is what an activity amounts to.
type meaning struct {
	availability Availability
	rank         uint8  // of two activities of one availability the higher is shown
	name         string // to show; "": its own
	outOfOffice  bool
}

// activities are those of RFC 4480 section 3.2 and what vendors add. One that is not here, as
// well as "other" and "unknown", is shown and says nothing of whether its presentity can be
// reached; so are those that one can be reached at, such as "working".
var activities = map[string]meaning{
	"dnd":            {availability: SeenDoNotDisturb, name: "do-not-disturb"}, // Cisco, Digium
	"do-not-disturb": {availability: SeenDoNotDisturb},
	"presentation":   {availability: SeenBusy, rank: 9, name: "presenting"},
	"on-the-phone":   {availability: SeenBusy, rank: 8},
	"meeting":        {availability: SeenBusy, rank: 7},
	"appointment":    {availability: SeenBusy, rank: 7, name: "meeting"}, // by the calendar, which tells no more
	"busy":           {availability: SeenBusy, rank: 5},
	"performance":    {availability: SeenBusy, rank: 4},
	"spectator":      {availability: SeenBusy, rank: 4},
	"steering":       {availability: SeenBusy, rank: 4},
	"worship":        {availability: SeenBusy, rank: 4},
	"ringing":        {availability: SeenBusy, rank: 1},
	"alerting":       {availability: SeenBusy, rank: 1, name: "ringing"}, // Cisco
	"vacation":       {availability: SeenAway, rank: 9, outOfOffice: true},
	"holiday":        {availability: SeenAway, rank: 8},

	"permanent-absence": {availability: SeenAway, rank: 9, outOfOffice: true},
	"travel":            {availability: SeenAway, rank: 7},
	"in-transit":        {availability: SeenAway, rank: 7},
	"sleeping":          {availability: SeenAway, rank: 6},
	"breakfast":         {availability: SeenAway, rank: 5},
	"lunch":             {availability: SeenAway, rank: 5},
	"dinner":            {availability: SeenAway, rank: 5},
	"meal":              {availability: SeenAway, rank: 4},
	"shopping":          {availability: SeenAway, rank: 4},
	"away":              {availability: SeenAway, rank: 3},

	"looking-for-work": {availability: SeenAvailable, rank: 2},
	"playing":          {availability: SeenAvailable, rank: 2},
	"tv":               {availability: SeenAvailable, rank: 2},
	"working":          {availability: SeenAvailable, rank: 2},
	"other":            {},
	"unknown":          {},
}

// plain are activities that tell no more than the availability.
var plain = map[string]bool{"do-not-disturb": true, "busy": true, "away": true, "other": true, "unknown": true}

// isActivity tells whether an element that stands outside of <activities> is one.
func isActivity(name string) bool { _, ok := activities[name]; return ok }

// apart tells what a note says beyond "busy" and "other", for writers who have no other way:
//
//   - do not disturb: our own publisher, FreeSWITCH and Bria (<rpid:busy/>), Linphone (the
//     text in <rpid:busy> or <rpid:other>); "Busy (DND)": Jitsi.
//   - on the phone, on hold, ringing: Asterisk and FreeSWITCH (<rpid:busy/>), the last also we.
//   - presenting: our own publisher.
//
// FreeSWITCH adds the other side: "On the phone 1001". A note that somebody writes himself
// reads as one of these if it is one; without "busy" or "other" beside it, it is but a note.
func apart(note string) (activity string) {
	note = strings.Join(strings.Fields(strings.ToLower(note)), " ")
	switch note {
	case "do not disturb", "dnd", "busy (dnd)":
		return "do-not-disturb"
	case "ringing":
		return "ringing"
	case "on hold":
		return "on-the-phone"
	case "presenting":
		return "presentation"
	}
	if rest, ok := strings.CutPrefix(note, "on the phone"); ok && (rest == "" || rest[0] == ' ') {
		return "on-the-phone"
	}
	return ""
}

// refined returns the activity that is meant by one with notes.
func refined(activity string, notes []string) string {
	if activity != "busy" && activity != "other" {
		return activity
	}
	for _, note := range notes {
		if finer := apart(note); finer != "" {
			return finer
		}
	}
	return activity
}
