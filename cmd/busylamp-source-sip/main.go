// Command busylamp-source-sip is a source of presence: a watcher of SIP servers by RFC 6665
// (SUBSCRIBE and NOTIFY), for the event packages presence (RFC 3856) and dialog (RFC 4235).
package main

import "github.com/busylamp/busylamp/plugin"

// version is the program's, which the build sets.
var version = "dev"

func main() { plugin.Serve(newSource()) }
