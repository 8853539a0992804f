package xmltree_test

import (
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf/xmltree"
)

var limits = xmltree.Limits{Bytes: 1000, Items: 10, Depth: 4}

func TestParse(t *testing.T) {
	n, err := xmltree.Parse([]byte("\uFEFF \n<?xml version='1.0' encoding='utf-8'?><!DOCTYPE a SYSTEM 'http://192.0.2.1/a.dtd'>"+
		"<!-- c --><a xmlns='urn:a' xmlns:p='urn:p' p:id='no' id=' yes '>one &amp; <p:b>two</p:b><u:c/> t&#xE9;n \n</a>\n<!-- c -->\x00\x00"), limits)
	if err != nil {
		t.Fatal(err)
	}
	if n.Name.Local != "a" || n.Name.Space != "urn:a" || n.Attr("id") != "yes" || n.Attr("other") != "" || n.Text != "one &  tén" {
		t.Errorf("read %+v", n)
	}
	if len(n.Children) != 2 || !n.Children[0].Of("urn:p") || n.Children[0].Text != "two" || n.Children[0].Of("urn:a") ||
		n.Children[1].Name.Space != "u" {
		t.Errorf("children %+v", n.Children)
	}
}

// TestLimits: each limit is met to the last and not beyond.
func TestLimits(t *testing.T) {
	pad := func(n int) string { return "<a>" + strings.Repeat("x", n-len("<a></a>")) + "</a>" }
	for _, c := range []struct{ name, good, bad, want string }{
		{"bytes", pad(1000), pad(1001), "1001 bytes"},
		{"elements", "<a>" + strings.Repeat("<b/>", 9) + "</a>", "<a>" + strings.Repeat("<b/>", 10) + "</a>", "more than 10"},
		{"attributes", "<a b='' c='' d='' e='' f='' g='' h='' i='' j=''/>", "<a b='' c='' d='' e='' f='' g='' h='' i='' j='' k=''/>", "more than 10"},
		{"depth", "<a><a><a><a/></a></a></a>", "<a><a><a><a><a/></a></a></a></a>", "4 deep"},
		{"one document", "<a/> \n", "<a/><b/>", "second"},
		{"nothing before", " <a/>", "x<a/>", `"x" stands outside`},
		{"nothing behind", "<a/>\x00", "<a/>x", `"x" stands outside`},
		{"an element", "<a/>", " \n", "no document"},
		{"well-formedness", "<a><b/></a>", "<a><b></a>", "b"},
		{"entities", "<a>&lt;&#65;</a>", `<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>`, "&c;"},
		{"charset", `<?xml version="1.0" encoding="utf8"?><a/>`, `<?xml version="1.0" encoding="UTF-16"?><a/>`, "UTF-16"},
		{"characters", "<a>&#9;</a>", "<a>\x01</a>", "U+0001"},
	} {
		if _, err := xmltree.Parse([]byte(c.good), limits); err != nil {
			t.Errorf("%s: %v for %q", c.name, err, c.good)
		}
		if n, err := xmltree.Parse([]byte(c.bad), limits); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q for %q (%+v)", c.name, err, c.want, c.bad, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0" encoding="ISO-8859-1"?><a xmlns="urn:a" b="c">` + "\xfc" + `<d/>&amp;</a>`))
	f.Add([]byte("<a><![CDATA[x]]></a>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := xmltree.Parse(body, limits)
		if (n == nil) == (err == nil) {
			t.Fatalf("%v, %v", n, err)
		}
		if err != nil {
			return
		}
		if items, depth := measure(n); items > limits.Items || depth > limits.Depth {
			t.Errorf("%d items, %d deep", items, depth)
		}
	})
}

func measure(n *xmltree.Node) (items, depth int) {
	items = 1 + len(n.Attrs)
	for _, c := range n.Children {
		i, d := measure(c)
		items, depth = items+i, max(depth, d)
	}
	return items, depth + 1
}
