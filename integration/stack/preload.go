package stack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Preload has a proxy begin its life in n calls, as if it had restarted with a dialog
// database: held0@Domain and so on call a number elsewhere. They have no phones, and last
// for hours.
func (s *Stack) Preload(o *KamailioOptions, n int) error {
	if err := ports(&o.Port); err != nil { // it logs a line for each dialog whose socket it does not have
		return err
	}
	here := "udp:" + Addr(o.Port)
	dir, err := s.emptyTables("dialogs", "version", "dialog", "dialog_vars")
	if err != nil {
		return err
	}
	var rows bytes.Buffer
	now := time.Now().Unix()
	for i := range n {
		callID := fmt.Sprintf("%08x-held-%d", uint32(i)*2654435761, i)
		for j, v := range []any{i + 1, dialogHash(callID), i + 1, callID, Held(i), "ft", "sip:elsewhere@example.net", "tt", 1, 1, "", "",
			"sip:held@127.0.0.1:9", "sip:held@127.0.0.1:9", here, here, 4, now, now + 6*3600, 0, 0, "",
			"sip:elsewhere@example.net", ""} {
			if j > 0 {
				rows.WriteByte(':')
			}
			rows.WriteString(strings.ReplaceAll(fmt.Sprint(v), ":", `\:`))
		}
		rows.WriteByte('\n')
	}
	f, err := os.OpenFile(filepath.Join(dir, "dialog"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// db_text takes far longer for 100,000 rows with the default allocator.
	o.Allocator = "fm"
	o.Modules += "loadmodule \"db_text.so\"\n"
	// 3: the database is read at the start, and written at the end alone.
	o.Settings += fmt.Sprintf("modparam(\"dialog\", \"db_url\", \"text://%s\")\nmodparam(\"dialog\", \"db_mode\", 3)\n", dir)
	_, err = rows.WriteTo(f)
	return err
}

// Held is the caller of the i-th call of [Stack.Preload].
func Held(i int) string { return fmt.Sprintf("sip:held%d@%s", i, Domain) }

// dialogHash is where Kamailio's dialog module keeps a Call-ID: core_hash, for its default
// hash_size. It refuses a table whose rows say otherwise.
func dialogHash(callID string) uint32 {
	const size = 4096
	var h uint32
	mix := func(s string) {
		var v uint32
		for i := range len(s) {
			v = v<<8 + uint32(s[i])
		}
		h += v ^ v>>3
	}
	for ; len(callID) >= 4; callID = callID[4:] {
		mix(callID[:4])
	}
	mix(callID)
	h += h>>11 + h>>13 + h>>23
	return h & (size - 1)
}
