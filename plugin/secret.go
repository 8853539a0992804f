package plugin

import (
	"regexp"
	"strings"
)

var (
	inList     = regexp.MustCompile(`\[[0-9]+\]`)
	secretName = regexp.MustCompile(`(?i)passw|passphrase|secret|token|api_?key|private_?key`)
)

// secret tells whether the value at a key must not be shown: the source has described it as a
// secret, or a section or list that holds it, or its name says so. In a list each entry is
// what the list is: accounts[0].password is accounts.password.
func (d *decoder) secret(at string) bool {
	name := ""
	for part := range strings.SplitSeq(inList.ReplaceAllString(at, ""), ".") {
		if name = child(name, part); d.secrets[name] || secretName.MatchString(part) {
			return true
		}
	}
	return false
}

// mayShow tells whether what was written at a key can be shown. What stands where a section
// with a secret in it should may be that secret.
func (d *decoder) mayShow(at string) bool {
	within := inList.ReplaceAllString(at, "") + "."
	for name, secret := range d.secrets {
		if secret && strings.HasPrefix(name, within) {
			return false
		}
	}
	return !d.secret(at)
}
