//go:build race

package main

// many is fewer where the race detector makes everything ten times as slow.
const many = 4000
