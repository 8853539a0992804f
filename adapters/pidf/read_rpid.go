package pidf

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/busylamp/busylamp/adapters/pidf/xmltree"
)

// doing reads what RPID and its drafts say in a tuple or of a person.
func doing(n *xmltree.Node) Doing {
	var d Doing
	var texts []string
	for _, c := range inStatus(n) {
		switch name := strings.ToLower(c.Name.Local); {
		case name == "activities" && ours(c):
			texts = append(texts, d.activities(c)...)
		case name == "note" && ours(c):
			d.Notes = appendNote(d.Notes, c.Text)
		case name == "timestamp" && ours(c):
			d.Timestamp = dateTime(c.Text)
		case name == "digium_presence":
			texts = append(texts, d.digium(c)...)
		case strings.Contains(c.Name.Space, "rpid") && isActivity(name):
			d.add(name) // one that stands by itself: <rpid:unknown/>, Cisco's <ce:dnd/>
		}
	}
	for _, text := range texts {
		d.Notes = appendNote(d.Notes, text)
	}
	return d
}

// activities reads <activities> and returns the texts in it. Several of them in one element
// add up, and only the times of the last are kept: RFC 4480 allows one.
func (d *Doing) activities(n *xmltree.Node) (texts []string) {
	d.From, d.Until = dateTime(n.Attr("from")), dateTime(n.Attr("until"))
	for _, c := range n.Children {
		switch name := strings.ToLower(c.Name.Local); name {
		case "note":
			d.Notes = appendNote(d.Notes, c.Text)
		case "activity": // of the drafts
			d.add(strings.ToLower(c.Text))
		default:
			d.add(name)
			texts = append(texts, c.Text)
		}
	}
	return texts
}

// digium reads Asterisk's presence state (res_pidf_digium_body_supplement), whose only way to
// say do-not-disturb it is: <digium_presence type="dnd" subtype="">the message.
func (d *Doing) digium(n *xmltree.Node) (texts []string) {
	switch kind := strings.ToLower(n.Attr("type")); kind {
	case "dnd", "away":
		d.add(kind)
	case "xa": // extended away
		d.add("away")
	}
	return []string{n.Attr("subtype"), n.Text}
}

func (d *Doing) add(activity string) {
	if activity != "" && len(activity) <= 64 && len(d.Activities) < maxActivities {
		d.Activities = append(d.Activities, activity)
	}
}

// appendNote appends a note unless it is empty or one too many.
func appendNote(notes []string, text string) []string {
	if text == "" || len(notes) == maxNotes {
		return notes
	}
	return append(notes, cut(text))
}

// cut returns text, or as many of its characters as a note may have.
func cut(text string) string {
	if len(text) <= maxNote {
		return text
	}
	end := maxNote
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// dateTime reads an xs:dateTime (XML Schema part 2 section 3.2.7). One without a zone is
// taken for UTC, and what is none for unknown.
func dateTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
