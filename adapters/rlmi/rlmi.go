// Package rlmi reads what a resource list server (RFC 4662) sends to who has subscribed to a
// whole list: a multipart document whose root (RLMI) says how it goes with each resource, and
// whose other parts are the resources' own documents.
package rlmi

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/busylamp/busylamp/adapters/pidf/xmltree"
)

// The media types of what is read.
const (
	ContentType          = "application/rlmi+xml" // RFC 4662 section 8.2
	MultipartContentType = "multipart/related"    // RFC 2387
)

// What is read at most: a list of 1,000 resources with some 4 KiB each.
const (
	MaxBytes     = 4 << 20
	MaxResources = 5000
	maxParts     = 5001
)

var limits = xmltree.Limits{Bytes: 2 << 20, Items: 150_000, Depth: 16}

// List is a document about a list (RFC 4662 section 5).
type List struct {
	URI       string // of the list
	Version   uint32
	Full      bool // all of its resources are told; else those that have changed
	Resources []Resource

	parts map[string]Part // by Content-ID
}

// Resource is a member of the list.
type Resource struct {
	URI  string
	Name string // to show, "" if there is none
	// Instances are the subscriptions that the server has for it: none while it has none as
	// yet, more than one if they have forked.
	Instances []Instance
}

// Instance is a subscription of the server's to a resource (RFC 4662 section 5.5).
type Instance struct {
	ID     string
	State  State
	Reason string // why it is terminated, by RFC 6665 section 4.2.2: "noresource", ...
	CID    string // of the part with its document, for [List.Part]; "" if there is none
}

// State is the state of an instance (RFC 6665 section 4.1.2).
type State uint8

// The states.
const (
	StateUnknown State = iota // one that is not known, or missing
	Active
	Pending
	Terminated
)

var states = map[string]State{"active": Active, "pending": Pending, "terminated": Terminated}

var stateNames = [...]string{"unknown", "active", "pending", "terminated"}

// String returns the state's name.
func (s State) String() string { return stateNames[min(int(s), len(stateNames)-1)] }

// Part is a resource's document.
type Part struct {
	ContentType string // with its parameters, as it is written
	Body        []byte
}

// Part returns the part with a Content-ID, and whether there is one.
func (l List) Part(cid string) (Part, bool) {
	p, ok := l.parts[cid]
	return p, ok
}

// Read reads the body of a NOTIFY for a list, by its Content-Type.
//
// A list that is a member of the list comes as a multipart of its own: its resources stand
// among the list's then, in the place of it, one level deep. An error says that the body is no
// such document, or a larger one than is read. An instance whose part is missing has a CID all
// the same: it is [List.Part] that does not know it.
func Read(contentType string, body []byte) (List, error) {
	if len(body) > MaxBytes {
		return List{}, fmt.Errorf("resource list: %d bytes, and at most %d are read", len(body), MaxBytes)
	}
	l, err := read(contentType, body)
	if err == nil {
		err = l.unfold()
	}
	if err != nil {
		return List{}, fmt.Errorf("resource list: %w", err)
	}
	return l, nil
}

// read reads a list and leaves lists in it as they are.
func read(contentType string, body []byte) (List, error) {
	media, params := mediaType(contentType)
	if media == ContentType {
		return root(body)
	}
	if media != MultipartContentType {
		return List{}, fmt.Errorf("the Content-Type is %.80q, not %s", contentType, MultipartContentType)
	}
	first, parts, err := split(params, body)
	if err != nil {
		return List{}, err
	}
	if media, _ := mediaType(first.ContentType); media != ContentType {
		return List{}, fmt.Errorf("its root has the Content-Type %.80q, not %s", first.ContentType, ContentType)
	}
	l, err := root(first.Body)
	l.parts = parts
	return l, err
}

// root reads an RLMI document.
func root(body []byte) (List, error) {
	n, err := xmltree.Parse(body, limits)
	if err != nil {
		return List{}, err
	}
	if n.Name.Local != "list" || !n.Of(space) {
		return List{}, fmt.Errorf("the element is <%.40s> of %.80q, not <list> of %q", n.Name.Local, n.Name.Space, space)
	}
	version, err := strconv.ParseUint(n.Attr("version"), 10, 32)
	if err != nil {
		return List{}, fmt.Errorf("version=%.20q is no number of 32 bits", n.Attr("version"))
	}
	l := List{URI: n.Attr("uri"), Version: uint32(version)}
	l.Full = n.Attr("fullState") == "true" || n.Attr("fullState") == "1"
	for _, c := range n.Children {
		if c.Name.Local == "resource" && c.Of(space) {
			l.Resources = append(l.Resources, resource(c))
		}
	}
	if len(l.Resources) > MaxResources {
		return List{}, fmt.Errorf("%d resources, and at most %d are read", len(l.Resources), MaxResources)
	}
	return l, nil
}

const space = "urn:ietf:params:xml:ns:rlmi"

func resource(n *xmltree.Node) Resource {
	r := Resource{URI: n.Attr("uri")}
	for _, c := range n.Children {
		switch {
		case !c.Of(space):
		case c.Name.Local == "name" && r.Name == "":
			r.Name = c.Text
		case c.Name.Local == "instance":
			r.Instances = append(r.Instances, Instance{ID: c.Attr("id"), State: states[strings.ToLower(c.Attr("state"))],
				Reason: strings.ToLower(c.Attr("reason")), CID: contentID(c.Attr("cid"))})
		}
	}
	return r
}

// unfold puts the resources of lists in the list into the place of these. Each part is read as
// a list once at most, however often it is named, and those of the lists in it are not: what
// there is to do is bounded by the body's size.
func (l *List) unfold() error {
	var all []Resource
	var inner []map[string]Part
	tried := make(map[string]bool)
	for _, r := range l.Resources {
		if nested, ok := l.nested(r, tried); ok {
			all, inner = append(all, nested.Resources...), append(inner, nested.parts)
		} else {
			all = append(all, r)
		}
		if len(all) > MaxResources {
			return fmt.Errorf("more than %d resources with those of the lists in it", MaxResources)
		}
	}
	for _, parts := range inner {
		for cid, part := range parts {
			if _, taken := l.parts[cid]; !taken {
				l.parts[cid] = part
			}
		}
	}
	l.Resources = all
	return nil
}

// nested returns the list that a resource is. One that cannot be read is like a resource whose
// document cannot be, and does not cost the others theirs.
func (l *List) nested(r Resource, tried map[string]bool) (List, bool) {
	for _, i := range r.Instances {
		part, _ := l.Part(i.CID)
		if media, _ := mediaType(part.ContentType); media == MultipartContentType && !tried[i.CID] {
			tried[i.CID] = true
			inner, err := read(part.ContentType, part.Body)
			return inner, err == nil
		}
	}
	return List{}, false
}
