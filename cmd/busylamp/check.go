package main

import (
	"fmt"
	"io"
)

// check validates a configuration and returns the exit code.
func check(path string, environ []string, stdout, stderr io.Writer) int {
	cfg, err := load(path, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintf(stdout, "%s: ok: %s\n", path, cfg.summary())
	return 0
}
