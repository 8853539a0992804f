package main

import (
	"strings"

	"github.com/busylamp/busylamp"
)

// directory is the configuration's own: whoever is in one of its domains, or has one of its
// numbers.
type directory struct {
	domains map[string]bool
	numbers []string // their beginnings
	names   map[busylamp.Presentity]string
	upns    map[busylamp.Presentity]string
}

func newDirectory(cfg config) *directory {
	d := &directory{domains: make(map[string]bool), numbers: cfg.Numbers,
		names: make(map[busylamp.Presentity]string), upns: make(map[busylamp.Presentity]string)}
	for _, name := range cfg.Domains {
		d.domains[name] = true
	}
	for uri, name := range cfg.Names {
		d.names[busylamp.Presentity(uri)] = name
	}
	for uri, upn := range cfg.UPNs {
		d.upns[busylamp.Presentity(uri)] = upn
	}
	return d
}

// Presentity returns who a URI of a call names, "" for somebody in no domain of ours. A
// number of ours is that number at whatever host: a gateway's, or the proxy's.
func (d *directory) Presentity(uri string) (busylamp.Presentity, error) {
	p, err := busylamp.ParsePresentity(uri)
	if err != nil {
		return "", err
	}
	if number := d.number(p); number != "" {
		return number, nil
	}
	if !d.domains[p.Domain()] {
		return "", nil
	}
	return p, nil
}

// number returns somebody as a number of ours, "" if he has none.
func (d *directory) number(p busylamp.Presentity) busylamp.Presentity {
	if len(d.numbers) == 0 || !strings.HasPrefix(p.User(), "+") {
		return ""
	}
	number, err := busylamp.ParsePresentity("tel:" + p.User())
	if err != nil {
		return ""
	}
	for _, begin := range d.numbers {
		if strings.HasPrefix(number.User(), begin) {
			return number
		}
	}
	return ""
}

// UPN returns somebody's user principal name, "" for none.
func (d *directory) UPN(p busylamp.Presentity) string { return d.upns[p] }

// DisplayName returns the configured name.
func (d *directory) DisplayName(p busylamp.Presentity) string { return d.names[p] }
