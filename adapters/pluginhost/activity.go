package pluginhost

import (
	"strings"

	"github.com/busylamp/busylamp"
	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// activities are what somebody can be at, by RFC 4480's names and by those of Microsoft
// Graph and others, without case and separators.
var activities = map[string]busylamp.State{
	"onthephone": busylamp.OnThePhone, "inacall": busylamp.OnThePhone, "oncall": busylamp.OnThePhone,
	"meeting": busylamp.Meeting, "inameeting": busylamp.Meeting, "inmeeting": busylamp.Meeting,
	"inaconferencecall": busylamp.Meeting, "appointment": busylamp.Meeting, "calendar": busylamp.Meeting,
	"presenting": busylamp.Presenting, "presentation": busylamp.Presenting,
	"ringing": busylamp.Ringing,
	"away":    busylamp.Away, "berightback": busylamp.Away, "offwork": busylamp.Away,
}

// activity looks an activity up, Unknown if it is none that changes a state.
func activity(name string) busylamp.State {
	if len(name) > maxText {
		return busylamp.Unknown
	}
	return activities[strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(name))]
}

// state folds what somebody's availability and activity are into one state. ok is false for
// an availability of a later version of the contract.
//
// An activity refines the availability that it belongs to and never crosses it: whoever is
// on the phone and does not want to be disturbed does not want to be disturbed. Presenting
// is the exception, since nobody presents who can be disturbed.
func state(a pluginv1.Availability, name string) (s busylamp.State, ok bool) {
	does := activity(name)
	switch a {
	case pluginv1.Availability_AVAILABILITY_UNSPECIFIED:
		return busylamp.Unknown, true
	case pluginv1.Availability_AVAILABILITY_OFFLINE:
		return busylamp.Offline, true
	case pluginv1.Availability_AVAILABILITY_AVAILABLE:
		if does == busylamp.Ringing || does == busylamp.Away {
			return does, true
		}
		return busylamp.Available, true
	case pluginv1.Availability_AVAILABILITY_AWAY:
		return busylamp.Away, true
	case pluginv1.Availability_AVAILABILITY_BUSY:
		if does == busylamp.Unknown || does == busylamp.Away {
			return busylamp.Busy, true
		}
		return does, true
	case pluginv1.Availability_AVAILABILITY_DO_NOT_DISTURB:
		if does == busylamp.Presenting {
			return does, true
		}
		return busylamp.DoNotDisturb, true
	}
	return busylamp.Unknown, false
}
