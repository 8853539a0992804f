package rlmi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
)

// split divides a multipart/related body (RFC 2387) into its root, which "start" names or which
// is the first, and all parts by their Content-IDs.
func split(params map[string]string, body []byte) (root Part, parts map[string]Part, err error) {
	boundary := params["boundary"]
	if boundary == "" || len(boundary) > 200 { // RFC 2046 section 5.1.1 allows 70
		return Part{}, nil, fmt.Errorf("the boundary is %.80q", boundary)
	}
	parts = make(map[string]Part)
	start := contentID(params["start"])
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		header, part, err := next(r)
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil {
			return Part{}, nil, fmt.Errorf("part %d: %w", n+1, err)
		}
		if n == maxParts {
			return Part{}, nil, fmt.Errorf("more than %d parts", maxParts)
		}
		cid := contentID(header)
		if _, twice := parts[cid]; cid != "" && !twice {
			parts[cid] = part
		}
		if n == 0 || start != "" && cid == start {
			root = part
		}
	}
	return root, parts, nil
}

// next returns the next part with its Content-ID; io.EOF after the last.
func next(r *multipart.Reader) (cid string, part Part, err error) {
	p, err := r.NextRawPart()
	if err != nil {
		return "", Part{}, err
	}
	// Bodies in SIP are binary (RFC 4662 section 5.4): nothing decodes these.
	switch encoding := strings.ToLower(strings.TrimSpace(p.Header.Get("Content-Transfer-Encoding"))); encoding {
	case "", "binary", "8bit", "7bit":
	default:
		return "", Part{}, fmt.Errorf("it is encoded in %.40q, not binary", encoding)
	}
	part = Part{ContentType: p.Header.Get("Content-Type")}
	part.Body, err = io.ReadAll(p) // of a body whose size is bounded
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return p.Header.Get("Content-ID"), part, err
}

// contentID returns a Content-ID as a "cid" names it: without the angle brackets and the
// scheme that some write.
func contentID(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 4 && strings.EqualFold(s[:4], "cid:") {
		s = s[4:]
	}
	s = strings.TrimPrefix(s, "<")
	return strings.TrimSuffix(s, ">")
}

// mediaType returns a Content-Type's media type in lower case, and its parameters. It is
// SIP's grammar (RFC 3261 section 25.1), which allows white space around "=" and ";", and so
// takes what mime.ParseMediaType refuses. Of two parameters with one name the first counts.
func mediaType(s string) (media string, params map[string]string) {
	media, rest, _ := strings.Cut(s, ";")
	params = make(map[string]string)
	for rest != "" {
		var name, value string
		name, value, rest = parameter(rest)
		if _, twice := params[name]; !twice {
			params[name] = value
		}
	}
	return strings.ToLower(strings.TrimSpace(media)), params
}

// parameter divides "name = value; rest", where the value may be a quoted string.
func parameter(s string) (name, value, rest string) {
	end := strings.IndexAny(s, "=;")
	if end < 0 {
		return strings.ToLower(strings.TrimSpace(s)), "", ""
	}
	name, rest = strings.ToLower(strings.TrimSpace(s[:end])), s[end+1:]
	if s[end] == ';' {
		return name, "", rest
	}
	rest = strings.TrimLeft(rest, " \t\r\n")
	if !strings.HasPrefix(rest, `"`) {
		value, rest, _ = strings.Cut(rest, ";")
		return name, strings.TrimSpace(value), rest
	}
	var b strings.Builder
	i := 1
	for ; i < len(rest) && rest[i] != '"'; i++ {
		if rest[i] == '\\' && i+1 < len(rest) {
			i++
		}
		b.WriteByte(rest[i])
	}
	_, rest, _ = strings.Cut(rest[min(i+1, len(rest)):], ";")
	return name, b.String(), rest
}
