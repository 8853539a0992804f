package pidf_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/busylamp/busylamp/adapters/pidf"
)

// ranking are activities by strength, the strongest first, and what each is shown as.
var ranking = []struct {
	activity     string
	availability pidf.Availability
	shown        string
}{
	{"dnd", pidf.SeenDoNotDisturb, ""},
	{"presentation", pidf.SeenBusy, "presenting"},
	{"on-the-phone", pidf.SeenBusy, "on-the-phone"},
	{"appointment", pidf.SeenBusy, "meeting"},
	{"busy", pidf.SeenBusy, ""},
	{"steering", pidf.SeenBusy, "steering"},
	{"alerting", pidf.SeenBusy, "ringing"},
	{"vacation", pidf.SeenAway, "vacation"},
	{"holiday", pidf.SeenAway, "holiday"},
	{"travel", pidf.SeenAway, "travel"},
	{"sleeping", pidf.SeenAway, "sleeping"},
	{"lunch", pidf.SeenAway, "lunch"},
	{"meal", pidf.SeenAway, "meal"},
	{"away", pidf.SeenAway, ""},
	{"working", pidf.SeenAvailable, "working"},
	{"juggling", pidf.SeenAvailable, "juggling"}, // nobody's
}

func person(activities ...string) pidf.Person {
	return pidf.Person{Doing: pidf.Doing{Activities: activities}}
}

// TestStrongestActivityWins: of any two, in one element or in two, in either order, of a person
// and a tuple.
func TestStrongestActivityWins(t *testing.T) {
	tuple := pidf.Tuple{ID: "t", HasBasic: true, Open: true}
	for i, strong := range ranking {
		for _, weak := range ranking[i:] {
			a, b := person(strong.activity), person(weak.activity)
			inTuple := tuple
			inTuple.Doing = a.Doing
			for how, s := range []pidf.Seen{
				{Tuples: []pidf.Tuple{tuple}, Persons: []pidf.Person{a, b}},
				{Tuples: []pidf.Tuple{tuple}, Persons: []pidf.Person{b, a}},
				{Tuples: []pidf.Tuple{tuple}, Persons: []pidf.Person{person(strong.activity, weak.activity)}},
				{Tuples: []pidf.Tuple{tuple}, Persons: []pidf.Person{person(weak.activity, strong.activity)}},
				{Tuples: []pidf.Tuple{inTuple}, Persons: []pidf.Person{b}},
			} {
				got, ok := s.Summary(noon)
				if !ok || got.Availability != strong.availability || got.Activity != strong.shown {
					t.Errorf("%s over %s, %d: %+v", strong.activity, weak.activity, how, got)
				}
				if away := strong.activity == "vacation" || weak.activity == "vacation"; got.OutOfOffice != away {
					t.Errorf("%s over %s, %d: out of office %v", strong.activity, weak.activity, how, got.OutOfOffice)
				}
			}
		}
	}
}

// TestBasicDecidesWithoutActivity: and whoever is away with no open tuple is offline, while
// busy stays.
func TestBasicDecidesWithoutActivity(t *testing.T) {
	opened, closed, none := pidf.Tuple{HasBasic: true, Open: true}, pidf.Tuple{HasBasic: true}, pidf.Tuple{}
	assistant := opened
	assistant.Relationship = "assistant"
	for _, c := range []struct {
		tuples   []pidf.Tuple
		activity string
		want     pidf.Availability
	}{
		{[]pidf.Tuple{opened}, "unknown", pidf.SeenAvailable},
		{[]pidf.Tuple{closed, opened}, "", pidf.SeenAvailable},
		{[]pidf.Tuple{closed, none}, "", pidf.SeenOffline},
		{[]pidf.Tuple{closed, assistant}, "", pidf.SeenOffline},
		{[]pidf.Tuple{closed}, "working", pidf.SeenOffline},
		{[]pidf.Tuple{closed}, "away", pidf.SeenOffline},
		{[]pidf.Tuple{closed}, "busy", pidf.SeenBusy},
		{[]pidf.Tuple{closed}, "dnd", pidf.SeenDoNotDisturb},
		{[]pidf.Tuple{opened}, "away", pidf.SeenAway},
		{nil, "away", pidf.SeenAway},
		{nil, "working", pidf.SeenAvailable},
		{[]pidf.Tuple{none}, "unknown", pidf.SeenUnknown},
		{[]pidf.Tuple{assistant}, "", pidf.SeenUnknown},
	} {
		s := pidf.Seen{Tuples: c.tuples}
		if c.activity != "" {
			s.Persons = []pidf.Person{person(c.activity)}
		}
		got, ok := s.Summary(noon)
		if got.Availability != c.want || ok != (c.want != pidf.SeenUnknown) {
			t.Errorf("%+v, %q: %v %v, want %v", c.tuples, c.activity, got.Availability, ok, c.want)
		}
	}
}

// TestActivityCountsInItsTime: RFC 4480 section 3.1.
func TestActivityCountsInItsTime(t *testing.T) {
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	for _, c := range []struct {
		from, until time.Time
		counts      bool
	}{
		{hour(-1), hour(1), true}, {hour(0), time.Time{}, true}, {time.Time{}, hour(1), true},
		{hour(1), hour(2), false}, {hour(-2), hour(-1), false}, {hour(-1), hour(0), false},
	} {
		p := person("meeting")
		p.From, p.Until = c.from, c.until
		got, _ := pidf.Seen{Tuples: []pidf.Tuple{{HasBasic: true, Open: true}}, Persons: []pidf.Person{p}}.Summary(noon)
		if (got.Activity == "meeting") != c.counts {
			t.Errorf("from %v until %v: %+v", c.from, c.until, got)
		}
		if c.counts && (got.Since != c.from || got.Until != c.until) {
			t.Errorf("from %v until %v: since %v until %v", c.from, c.until, got.Since, got.Until)
		}
	}
}

// TestNewestOfEqualOnesIsShown: and a clock ahead of ours makes nothing begin in the future.
func TestNewestOfEqualOnesIsShown(t *testing.T) {
	older, newer := person("busy"), person("busy")
	older.Notes, older.Timestamp = []string{"older"}, noon.Add(-time.Hour)
	newer.Notes, newer.Timestamp = []string{"newer"}, noon.Add(time.Hour)
	for _, persons := range [][]pidf.Person{{older, newer}, {newer, older}} {
		got, _ := pidf.Seen{Persons: persons}.Summary(noon)
		if got.Note != "newer" || !got.Since.Equal(noon) {
			t.Errorf("%+v", got)
		}
	}
}

// TestDeviceIsTheOneThatSaysSo: of two devices, that of the tuple which is shown.
func TestDeviceIsTheOneThatSaysSo(t *testing.T) {
	desk, soft := pidf.Tuple{ID: "a", HasBasic: true, Device: "desk"}, pidf.Tuple{ID: "b", HasBasic: true, Open: true, Device: "soft"}
	soft.Activities = []string{"busy"}
	if got, _ := (pidf.Seen{Tuples: []pidf.Tuple{desk, soft}}).Summary(noon); got.Device != "soft" {
		t.Errorf("%+v", got)
	}
}

// TestNotesTellApart: what a note says counts beside "busy" and "other" alone.
func TestNotesTellApart(t *testing.T) {
	for _, c := range []struct{ activity, note, want string }{
		{"busy", "  DND ", "do-not-disturb"},
		{"busy", "Do  not\ndisturb", "do-not-disturb"},
		{"busy", "Please do not disturb the fish", "busy"},
		{"busy", "On the phonebook committee", "busy"},
		{"busy", "on the phone", "busy on-the-phone"},
		{"busy", "Presenting", "busy presenting"},
		{"busy", "Presenting the fish", "busy"},
		{"away", "Presenting", "away"},
		{"away", "Calls forwarded", "away"},
		{"other", "On hold", "busy on-the-phone"},
		{"away", "Do not disturb", "away"},
		{"meeting", "Ringing", "busy meeting"},
		{"working", "On the phone", "available working"},
		{"unknown", "Do not disturb", "available"},
	} {
		p := person(c.activity)
		p.Notes = []string{"first", c.note}
		s := pidf.Seen{Tuples: []pidf.Tuple{{HasBasic: true, Open: true}}, Persons: []pidf.Person{p}}
		got, _ := s.Summary(noon)
		text := got.Availability.String()
		if got.Activity != "" {
			text = fmt.Sprint(text, " ", got.Activity)
		}
		if text != c.want {
			t.Errorf("%s, %q: %s, want %s", c.activity, c.note, text, c.want)
		}
	}
}

// TestOwnPresenting: our own document of somebody who presents reads as that.
func TestOwnPresenting(t *testing.T) {
	seen, err := pidf.Read(pidf.RPID(pidf.Document{Entity: "sip:a@example.com", Activity: pidf.Busy, Note: "Presenting"}))
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := seen.Summary(noon); !ok || got.Availability != pidf.SeenBusy || got.Activity != "presenting" {
		t.Errorf("%+v", got)
	}
}
