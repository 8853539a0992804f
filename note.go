package busylamp

import (
	"fmt"
	"time"
)

// Note is something that an operator should know of, told when it begins and when it ends
// and not in between.
type Note struct {
	Warning     bool
	What        string
	Kind, Name  string // of what it is about: "proxy" or "publisher" and its name
	Explanation string // "" for none
}

// noteEvery is the shortest time between two notes of one publisher's troubles.
const noteEvery = 10 * time.Second

func (e *Engine) note(warning bool, what, kind, name, explanation string) {
	e.out.Notes = append(e.out.Notes, Note{Warning: warning, What: what, Kind: kind, Name: name, Explanation: explanation})
}

// noteOutcome tells of a publisher's failures: the first, other ones, and their end.
func (e *Engine) noteOutcome(p *publication, r Request, o Outcome) {
	pub := p.publisher
	if o.Result == Accepted || o.Result == Gone || o.Result == TooBrief {
		if pub.trouble != "" && e.now-pub.troubleAt >= noteEvery {
			pub.trouble, pub.troubleAt = "", e.now
			e.note(false, "the presence server accepts again", "publisher", pub.name, "")
		}
		return
	}
	trouble := fmt.Sprintf("%v %d %s", o.Result, o.Code, o.Reason)
	e.trouble(pub, trouble, "a PUBLISH was not accepted; it will be tried again",
		fmt.Sprintf("%v of %s: %s", r.Kind, r.Presentity, trouble))
}

// trouble tells of a publisher's trouble, unless it or another was told of a moment ago.
func (e *Engine) trouble(pub *publisher, trouble, what, explanation string) {
	if trouble == pub.trouble || pub.trouble != "" && e.now-pub.troubleAt < noteEvery {
		return
	}
	pub.trouble, pub.troubleAt = trouble, e.now
	e.note(true, what, "publisher", pub.name, explanation)
}

func (p *publisher) waiting() (n int) {
	for i := range p.lanes {
		n += p.lanes[i].len()
	}
	return n
}
