package main

import (
	"fmt"
	"io"
)

func check(path string, environ []string, stdout, stderr io.Writer) int {
	if _, err := load(path, environ); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintln(stdout, path+": ok")
	return 0
}
