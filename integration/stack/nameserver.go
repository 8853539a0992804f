package stack

import (
	"fmt"
	"os"
)

// underNameserver changes how a program is started, so that it asks a DNS server of ours: in
// a mount namespace of its own, where /etc/resolv.conf is another file. Nothing changes for
// anybody else, and nothing is left behind when it ends. Root may do so; others get a user
// namespace as well, where the system lets them.
func (s *Stack) underNameserver(prog program, ip string) (program, error) {
	if err := Tools("unshare"); err != nil {
		return prog, err
	}
	file := s.file("resolv.conf")
	// One that does not answer is asked twice, for a second each time.
	text := fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:2\n", ip)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return prog, err
	}
	flags := "-m"
	if os.Geteuid() != 0 {
		flags = "-rm"
	}
	// exec: the process that is started is the program itself, to which signals go.
	const script = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	prog.args = append([]string{flags, "sh", "-c", script, file, prog.path}, prog.args...)
	prog.path = "unshare"
	return prog, nil
}
