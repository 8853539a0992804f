// Package xmltree reads the small XML documents of SIP event packages into trees of elements.
// They come from strangers, so that everything about them is bounded: their bytes, their
// elements and attributes, their depth. Nothing is fetched, and no entity is known but XML's
// own five and character references, so that none can grow.
package xmltree

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits bound a document. Each of them has to be set.
type Limits struct {
	Bytes int // of the body
	Items int // elements and attributes together
	Depth int // of elements within elements
}

// Node is an element.
type Node struct {
	// Name.Space is the namespace's URI, or the prefix where the document fails to declare
	// it: real ones do.
	Name     xml.Name
	Attrs    []xml.Attr
	Text     string // the element's own, without its children's, and without white space around it
	Children []*Node

	text []byte
}

// Attr returns the value of an attribute without a prefix, without white space around it, or
// "" if there is none.
func (n *Node) Attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// Of tells whether the element is of the namespace, or of none at all: some writers forget
// to declare it, and what they mean is plain.
func (n *Node) Of(space string) bool { return n.Name.Space == space || n.Name.Space == "" }

// Parse reads a document. Comments, processing instructions and a document type are skipped.
// White space and NULs after the end are, too; anything else there is an error.
func Parse(body []byte, l Limits) (*Node, error) {
	if len(body) > l.Bytes {
		return nil, fmt.Errorf("a document of %d bytes, and at most %d are read", len(body), l.Bytes)
	}
	body, err := toUTF8(bytes.TrimRight(body, "\x00"))
	if err != nil {
		return nil, err
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	// The text is in UTF-8 by now, whatever its declaration says.
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	b := builder{limits: l}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.end()
		}
		if err != nil {
			return nil, err
		}
		if err := b.take(token); err != nil {
			return nil, err
		}
	}
}

// builder grows a tree by tokens.
type builder struct {
	limits Limits
	items  int
	root   *Node
	open   []*Node // from the root to the element that the next token is in
}

func (b *builder) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return b.start(t)
	case xml.EndElement: // the decoder has seen that it is the last one's
		n := b.open[len(b.open)-1]
		n.Text, n.text = strings.TrimSpace(string(n.text)), nil
		b.open = b.open[:len(b.open)-1]
	case xml.CharData:
		if len(b.open) > 0 {
			n := b.open[len(b.open)-1]
			n.text = append(n.text, t...)
		} else if len(bytes.TrimSpace(t)) > 0 {
			return fmt.Errorf("%.40q stands outside of the document's element", t)
		}
	}
	return nil
}

func (b *builder) start(t xml.StartElement) error {
	b.items += 1 + len(t.Attr)
	switch {
	case b.items > b.limits.Items:
		return fmt.Errorf("more than %d elements and attributes", b.limits.Items)
	case len(b.open) == b.limits.Depth:
		return fmt.Errorf("elements within elements, more than %d deep", b.limits.Depth)
	case len(b.open) == 0 && b.root != nil:
		return fmt.Errorf("a second document, <%.40s>, follows the first", t.Name.Local)
	}
	n := &Node{Name: t.Name, Attrs: t.Attr} // the decoder makes a new slice for each element
	if len(b.open) == 0 {
		b.root = n
	} else {
		parent := b.open[len(b.open)-1]
		parent.Children = append(parent.Children, n)
	}
	b.open = append(b.open, n)
	return nil
}

func (b *builder) end() (*Node, error) {
	if b.root == nil {
		return nil, errors.New("no document: there is no element")
	}
	return b.root, nil
}
