package stack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// textTables is where Debian's package kamailio has empty tables as text files.
const textTables = "/usr/share/kamailio/dbtext/kamailio"

// tables makes a database of text files for the presence server and returns its folder. In
// memory alone (publ_cache 2), Kamailio 5.6.3 forgets a publication's body when it is
// refreshed, since a refresh has none (RFC 3903 section 4.1.2): whoever watches would see
// everybody free, in the middle of their calls.
func (s *Stack) tables() (string, error) {
	return s.emptyTables("tables", "version", "presentity", "active_watchers", "watchers", "xcap")
}

// emptyTables makes a folder of empty tables.
func (s *Stack) emptyTables(folder string, tables ...string) (string, error) {
	dir := s.file(folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for _, name := range tables {
		text, err := os.ReadFile(filepath.Join(textTables, name))
		if err != nil {
			return "", fmt.Errorf("tables (Debian's package kamailio has them): %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// schema is where Debian's package kamailio-sqlite-modules has its tables.
const schema = "/usr/share/kamailio/db_sqlite"

// dialogs makes an SQLite database with empty tables for dialogs and returns its file.
func (s *Stack) dialogs() (string, error) {
	if err := Tools("sqlite3"); err != nil {
		return "", err
	}
	var text []byte
	for _, name := range []string{"standard", "dialog"} {
		more, err := os.ReadFile(filepath.Join(schema, name+"-create.sql"))
		if err != nil {
			return "", fmt.Errorf("tables for dialogs (Debian's package kamailio-sqlite-modules has them; make deps): %w", err)
		}
		text = append(text, more...)
	}
	file := s.file("dialogs.sqlite")
	// The mode stays with the file. Were Kamailio to set it, each of its processes would, all at
	// once, and after a kill -9 some find the database locked: the proxy would not start.
	return file, sqlite(file, "PRAGMA journal_mode=WAL;\n"+string(text))
}

// sqlite runs statements on a database.
func sqlite(file, statements string) error {
	cmd := exec.Command("sqlite3", "-bail", file)
	cmd.Stdin = strings.NewReader(statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sqlite3 %s: %w: %.300s", file, err, out)
	}
	return nil
}

// dialogSettings has what changed written every second, by one process alone (db_mode 2): many
// that write at once find SQLite locked now and then.
func (k *Kamailio) dialogSettings() string {
	return fmt.Sprintf(`
loadmodule "db_sqlite.so"
modparam("dialog", "db_url", "sqlite:///%s")
modparam("dialog", "db_mode", 2)
modparam("dialog", "db_update_period", 1)
`, k.dialogs)
}
