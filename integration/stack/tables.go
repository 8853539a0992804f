package stack

import (
	"fmt"
	"os"
	"path/filepath"
)

// emptyTables are those that a presence server needs, as text files of Debian's package.
const emptyTables = "/usr/share/kamailio/dbtext/kamailio"

// tables makes a database of text files for the presence server and returns its folder. In
// memory alone (publ_cache 2), Kamailio 5.6.3 forgets a publication's body when it is
// refreshed, since a refresh has none (RFC 3903 section 4.1.2): whoever watches would see
// everybody free, in the middle of their calls.
func (s *Stack) tables() (string, error) {
	dir := s.file("tables")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for _, name := range []string{"version", "presentity", "active_watchers", "watchers", "xcap"} {
		text, err := os.ReadFile(filepath.Join(emptyTables, name))
		if err != nil {
			return "", fmt.Errorf("the presence server's tables (Debian's package kamailio has them): %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}
