package main

import (
	"fmt"
	"strings"

	"github.com/busylamp/busylamp/adapters/dialoginfo"
	"github.com/busylamp/busylamp/adapters/pidf"
	"github.com/busylamp/busylamp/adapters/rlmi"
)

// kind is what a document is.
type kind uint8

const (
	unsupported kind = iota
	ofPresence
	ofDialogs
	ofList
)

// eventPackage is what can be subscribed to.
type eventPackage struct {
	name string
	kind kind
	mime string
}

var (
	presence = &eventPackage{"presence", ofPresence, pidf.ContentType}    // RFC 3856
	dialogs  = &eventPackage{"dialog", ofDialogs, dialoginfo.ContentType} // RFC 4235
)

func packageOf(name string) *eventPackage {
	for _, p := range []*eventPackage{presence, dialogs} {
		if p.name == name {
			return p
		}
	}
	return nil
}

// acceptable is the Accept header of what is understood (RFC 4662 section 4.1 for lists).
func (p *eventPackage) acceptable(list bool) string {
	if list {
		return strings.Join([]string{p.mime, rlmi.ContentType, rlmi.MultipartContentType}, ", ")
	}
	return p.mime
}

// document is a body, read.
type document struct {
	kind    kind
	seen    pidf.Seen
	dialogs dialoginfo.Document
	list    rlmi.List
	parts   map[string]document // of a list, by their Content-IDs: those that can be read
}

// readDocument reads a body by its Content-Type. Of what is not supported it reads nothing.
func readDocument(mime string, body []byte) (d document, err error) {
	media, _, _ := strings.Cut(mime, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case presence.mime:
		d.kind = ofPresence
		d.seen, err = pidf.Read(body)
	case dialogs.mime:
		d.kind = ofDialogs
		d.dialogs, err = dialoginfo.Read(body)
	case rlmi.MultipartContentType, rlmi.ContentType:
		d.kind = ofList
		if d.list, err = rlmi.Read(mime, body); err == nil {
			d.readParts()
		}
	}
	return d, err
}

// maxInstances bounds a list server's subscriptions to one member: as many as phones that a
// person may have, with room.
const maxInstances = 32

// readParts reads the documents of a list's members, each once, however often it is named. One
// that cannot be read is left out, and costs the others nothing.
func (d *document) readParts() {
	d.parts = map[string]document{}
	read := map[string]bool{}
	for n := range d.list.Resources {
		r := &d.list.Resources[n]
		r.Instances = r.Instances[:min(len(r.Instances), maxInstances)]
		for _, i := range r.Instances {
			part, ok := d.list.Part(i.CID)
			if !ok || read[i.CID] {
				continue
			}
			read[i.CID] = true
			if one, err := readDocument(part.ContentType, part.Body); err == nil && one.kind != ofList {
				d.parts[i.CID] = one
			}
		}
	}
}

// String is for tests and logs.
func (p *eventPackage) String() string { return fmt.Sprintf("Event: %s", p.name) }
