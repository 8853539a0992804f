package busylamp

import "fmt"

// EndpointConfig is an application's presentity, such as a help desk, a bot or a queue. No
// person's client says that it is there, so it is always published: as State, or as available
// or on the phone by the number of its calls.
type EndpointConfig struct {
	Presentity Presentity
	State      State // Unknown: by its calls
	BusyAt     int   // how many calls make it busy, if State is Unknown
}

// sourceEndpoints is the built-in source of the configured endpoints.
const sourceEndpoints = "endpoints"

// addEndpoints begins with the configured endpoints.
func (e *Engine) addEndpoints(list []EndpointConfig) error {
	for i := range list {
		c := list[i]
		if c.State == Unknown && c.BusyAt < 1 {
			return fmt.Errorf("endpoint %s: by its calls, but busy at %d of them: at least 1", c.Presentity, c.BusyAt)
		}
		who := e.person(c.Presentity)
		if who.endpoint != nil {
			return fmt.Errorf("endpoint %s: twice", c.Presentity)
		}
		who.extend()
		who.endpoint = &c
		state := c.State
		if state == Unknown {
			state = Available
		}
		e.claim(who, Claim{Source: sourceEndpoints, State: state, Since: e.now}, reason{what: "endpoint"})
	}
	return nil
}

// state is what so many calls make of an endpoint.
func (c *EndpointConfig) state(calls int) State {
	if c.State == Unknown && calls >= c.BusyAt {
		return OnThePhone
	}
	return Unknown
}
