module github.com/busylamp/busylamp

go 1.26
