package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// keepAside is how many stores that were set aside are kept.
const keepAside = 3

// setAside moves what is at our directory's place out of the way, under a name that says
// when, for somebody to look at.
func (s *Store) setAside(why error) error {
	stem := s.dir + ".bad-" + s.clock.wall().UTC().Format("20060102T150405")
	to := stem
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil || n > 100 {
			return fmt.Errorf("cannot be used (%w) nor set aside as %s: %w; move it away", why, to, err)
		}
		to = fmt.Sprintf("%s-%02d", stem, n)
	}
	if err := os.Rename(s.dir, to); err != nil {
		return fmt.Errorf("cannot be used (%w) nor set aside: %w; move it away", why, err)
	}
	s.unlock()
	s.log.Error("store: set aside, for it cannot be used; it begins anew", "directory", s.dir, "moved", to, "error", why)
	s.prune()
	return nil
}

var asideName = regexp.MustCompile(`^\.bad-[0-9]{8}T[0-9]{6}(-[0-9]{2,3})?$`)

// prune removes all but the newest of what was set aside: a disk is not filled with them.
func (s *Store) prune() {
	entries, err := os.ReadDir(filepath.Dir(s.dir))
	if err != nil {
		return
	}
	var aside []string
	base := filepath.Base(s.dir)
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), base); ok && asideName.MatchString(rest) {
			aside = append(aside, e.Name())
		}
	}
	slices.Sort(aside) // by time
	for len(aside) > keepAside {
		name := filepath.Join(filepath.Dir(s.dir), aside[0])
		if err := os.RemoveAll(name); err != nil {
			s.log.Warn("store: removing what was set aside long ago", "directory", name, "error", err)
		}
		aside = aside[1:]
	}
}
