package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const rolePBX = "pbx"

// PBXDomain is the domain that a PBX serves unless it is told otherwise.
const PBXDomain = "pbx2.example"

// List is a list of users (RFC 4662) that a PBX answers for.
type List struct {
	URI     string
	Owner   string   // user@domain: who may watch it; a [Watcher] is watcher@ its domain
	Members []string // URIs
}

// PBX starts testdata/pbx.cfg, somebody else's PBX, and waits until it answers. Its phones'
// calls show by Event: dialog, their presence is as they publish it ([Phones.Publish]).
func (s *Stack) PBX(ctx context.Context, o KamailioOptions) (*Kamailio, error) {
	return s.kamailio(ctx, rolePBX, o)
}

func (k *Kamailio) pbxDefines() []string {
	o := k.options
	if o.Domain == "" {
		o.Domain = PBXDomain
	}
	d := []string{"PBX_DOMAIN=" + o.Domain, "PBX_DB=" + strconv.Quote("text://"+k.tables),
		"PBX_SELF=" + strconv.Quote("sip:"+k.Addr), "PBX_LISTS=" + strconv.Quote("sip:lists@"+k.Addr)}
	if o.MaxExpires > 0 {
		d = append(d, fmt.Sprintf("PBX_MAX_EXPIRES=%d", int(o.MaxExpires.Seconds())))
	}
	return d
}

// rlsService is what Kamailio calls a document of rls-services in the table xcap (1<<3).
const rlsService = 8

// pbxTables makes a PBX's database of text files and returns its folder.
func (s *Stack) pbxTables(lists []List) (string, error) {
	dir, err := s.emptyTables("pbx-tables", "version", "presentity", "active_watchers", "watchers", "xcap", "pua",
		"rls_presentity", "rls_watchers")
	if err != nil {
		return "", err
	}
	byOwner := make(map[string][]List)
	for _, l := range lists {
		byOwner[l.Owner] = append(byOwner[l.Owner], l)
	}
	f, err := os.OpenFile(filepath.Join(dir, "xcap"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	id := 0
	for owner, lists := range byOwner {
		id++
		user, domain, _ := strings.Cut(owner, "@")
		escape := strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace
		// id, username, domain, doc, doc_type, etag, source, doc_uri, port
		_, err := fmt.Fprintf(f, "%d:%s:%s:%s:%d:e%d:0:%s:0\n", id, user, domain, escape(services(lists)), rlsService, id,
			escape("rls-services/users/sip:"+owner+"/index"))
		if err != nil {
			return "", err
		}
	}
	return dir, nil
}

// services writes a document of rls-services (RFC 4826 section 4.2), in one line.
func services(lists []List) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><rls-services xmlns="urn:ietf:params:xml:ns:rls-services" xmlns:rl="urn:ietf:params:xml:ns:resource-lists">`)
	for _, l := range lists {
		fmt.Fprintf(&b, `<service uri=%q><list>`, l.URI)
		for _, m := range l.Members {
			fmt.Fprintf(&b, `<rl:entry uri=%q/>`, m)
		}
		b.WriteString(`</list><packages><package>presence</package></packages></service>`)
	}
	b.WriteString(`</rls-services>`)
	return b.String()
}
