package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// began is the start of this process; a child of the bench counts from its own.
var began = time.Now()

var progressLock sync.Mutex

// progressOf returns what tells of a measure's steps: a bar, and what is going on, a line each.
// All of that goes to standard error; standard output is for results.
func progressOf(name string) func(n, m int, format string, args ...any) {
	return func(n, m int, format string, args ...any) {
		const width = 20
		full := 0
		if m > 0 {
			full = min(max(n-1, 0)*width/m, width)
		}
		bar := strings.Repeat("#", full) + strings.Repeat(".", width-full)
		progressLock.Lock()
		defer progressLock.Unlock()
		fmt.Fprintf(os.Stderr, "%6.0f s  %-10s [%s] %d of %d: %s\n", time.Since(began).Seconds(), name, bar, n, m, fmt.Sprintf(format, args...))
	}
}
