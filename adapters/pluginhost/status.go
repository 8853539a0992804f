package pluginhost

import "time"

// Status is how a source's plugin does.
type Status struct {
	Name     string    `json:"name"`
	Path     string    `json:"path"`
	Kind     string    `json:"kind,omitempty"`     // what the plugin calls itself
	Version  string    `json:"version,omitempty"`  // of the plugin
	Contract int       `json:"contract,omitempty"` // its version
	State    string    `json:"state"`              // starting, running, restarting in 4s, parked, refused
	Since    time.Time `json:"since"`              // of the state
	PID      int       `json:"pid,omitempty"`
	Restarts int       `json:"restarts"`
	Ignored  uint64    `json:"ignored"` // claims and the like that could not be taken
	Digest   string    `json:"sha256,omitempty"`
	Error    string    `json:"last_error,omitempty"`
}

// The states of a plugin. One that waits for its restart says for how long.
const (
	starting   = "starting"
	running    = "running"
	restarting = "restarting in "
	parked     = "parked"  // it failed too often in a row
	refused    = "refused" // trying again would not help
)
