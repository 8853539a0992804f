package stack

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Publish has a user's phone publish a PIDF document at the phones' server, for an hour, as
// soft phones do (RFC 3903); "" withdraws what it published last.
func (p *Phones) Publish(ctx context.Context, user, document string) error {
	p.book.Lock()
	tag := p.tags[user]
	p.book.Unlock()
	if document == "" && tag == "" {
		return nil
	}
	extra := "Event: presence\r\n"
	if tag != "" {
		extra += "SIP-If-Match: " + tag + "\r\n"
	}
	if document != "" {
		extra += "Expires: 3600\r\nContent-Type: application/pidf+xml\r\n"
	} else {
		extra += "Expires: 0\r\n"
	}
	m, err := p.do(ctx, request{method: "PUBLISH", uri: p.aor(user), branch: newBranch(), cseq: 1, callID: p.callID(),
		from: "<" + p.aor(user) + ">;tag=" + p.tag, to: "<" + p.aor(user) + ">", extra: extra, body: document})
	if err == nil && m.status() != 200 {
		err = errors.New(m.start)
	}
	if err != nil {
		return fmt.Errorf("%s publishes: %w", user, err)
	}
	p.book.Lock()
	defer p.book.Unlock()
	if delete(p.tags, user); document != "" {
		p.tags[user] = m.get("sip-etag")
	}
	return nil
}

// PIDF writes a document of RFC 3863 and RFC 4480: an open tuple of that id, and a person
// with these activities, by their elements' names.
func PIDF(entity, tuple, note string, activities ...string) string {
	elements := ""
	for _, a := range activities {
		elements += "<rpid:" + a + "/>"
	}
	if note != "" {
		note = "<dm:note>" + note + "</dm:note>"
	}
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + fmt.Sprintf(`<presence xmlns="urn:ietf:params:xml:ns:pidf" `+
		`xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity=%q>`+
		`<tuple id=%q><status><basic>open</basic></status></tuple>`+
		`<dm:person id="%s-p"><rpid:activities>%s</rpid:activities>%s</dm:person></presence>`,
		entity, tuple, tuple, elements, note) + "\n"
}

// Person returns what a PIDF document says of the person (RFC 4479), as "activity ...; note":
// "busy on-the-phone; On the phone". It is "" where there is none.
func Person(document string) string {
	_, person, ok := strings.Cut(document, "person ")
	if !ok {
		return ""
	}
	person, _, _ = strings.Cut(person, "person>")
	var activities []string
	if _, inside, ok := strings.Cut(person, "activities>"); ok {
		inside, _, _ = strings.Cut(inside, "activities>")
		for _, m := range emptyElement.FindAllStringSubmatch(inside, -1) {
			activities = append(activities, m[1])
		}
	}
	_, note, _ := strings.Cut(person, "note>")
	note, _, _ = strings.Cut(note, "<")
	return strings.Join(activities, " ") + "; " + note
}

var emptyElement = regexp.MustCompile(`<(?:\w+:)?([\w-]+)\s*/>`)
