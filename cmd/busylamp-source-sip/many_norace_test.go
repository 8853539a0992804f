//go:build !race

package main

// many is how many presentities one source is to follow.
const many = 20_000
