package main

import "github.com/busylamp/busylamp"

// directory is the configuration's own: whoever is in one of its domains.
type directory struct {
	domains map[string]bool
	names   map[busylamp.Presentity]string
}

func newDirectory(cfg config) *directory {
	d := &directory{domains: make(map[string]bool), names: make(map[busylamp.Presentity]string)}
	for _, name := range cfg.Domains {
		d.domains[name] = true
	}
	for uri, name := range cfg.Names {
		d.names[busylamp.Presentity(uri)] = name
	}
	return d
}

// Presentity returns who a URI of a call names, "" for somebody in no domain of ours.
func (d *directory) Presentity(uri string) (busylamp.Presentity, error) {
	p, err := busylamp.ParsePresentity(uri)
	if err != nil || !d.domains[p.Domain()] {
		return "", err
	}
	return p, nil
}

// DisplayName returns the configured name.
func (d *directory) DisplayName(p busylamp.Presentity) string { return d.names[p] }
