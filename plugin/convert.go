package plugin

import (
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pluginv1 "github.com/busylamp/busylamp/plugin/proto/v1"
)

// day is how long a claim holds at most unless it is stated again.
const day = 24 * time.Hour

// The enumerations of this package and of the contract have the same numbers.

func descriptionOut(d Description) *pluginv1.DescribeResponse {
	out := &pluginv1.DescribeResponse{
		Name: text(d.Name), Version: text(d.Version), Summary: cut(d.Summary),
		Serves: d.Serves, Batch: uint32(min(d.Batch, 1<<20)), Unasked: d.Unasked,
	}
	for _, k := range d.Keys {
		out.Keys = append(out.Keys, &pluginv1.Key{
			Name: text(k.Name), Doc: text(k.Doc), Required: k.Required, Default: text(k.Default), Secret: k.Secret,
		})
	}
	return out
}

func problemsOut(problems []Problem) []*pluginv1.Problem {
	out := make([]*pluginv1.Problem, 0, min(len(problems), perMessage))
	for _, p := range problems[:min(len(problems), perMessage)] {
		out = append(out, &pluginv1.Problem{Key: cut(p.Key), Text: cutAt(p.Text, longestProblem)})
	}
	return out
}

func claimOut(c Claim) *pluginv1.Claim {
	out := &pluginv1.Claim{
		Presentity: c.Presentity, Availability: pluginv1.Availability(c.Availability), Activity: cut(c.Activity),
		Note: cut(c.Note), Device: cut(c.Device), OutOfOffice: c.OutOfOffice,
		Sequence: c.Sequence, Telephony: c.Telephony,
	}
	if c.Forward != NotForwarded {
		out.Forward = &pluginv1.Forward{Kind: pluginv1.Forward_Kind(c.Forward), Target: cut(c.ForwardedTo)}
	}
	if !c.Since.IsZero() {
		out.Since = timestamppb.New(c.Since)
	}
	if !c.Until.IsZero() {
		out.Until = timestamppb.New(earlier(c.Until, time.Now().Add(day)))
	}
	return out
}

func subscriptionOut(s Subscription) *pluginv1.Subscription {
	out := &pluginv1.Subscription{Presentity: s.Presentity, State: pluginv1.Subscription_State(s.State), Reason: cut(s.Reason)}
	if s.RetryAfter > 0 {
		out.RetryAfter = durationpb.New(s.RetryAfter)
	}
	return out
}

func connectorOut(c Connector) *pluginv1.Connector {
	return &pluginv1.Connector{State: pluginv1.Connector_State(c.State), Reason: cut(c.Reason)}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// text makes a string one that protobuf takes: valid UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// cut shortens what is for people.
func cut(s string) string { return cutAt(s, longestText) }

// cutAt shortens a text to so many bytes, at a rune's edge.
func cutAt(s string, most int) string {
	s = text(s)
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func cutAll(texts []string) []string {
	out := make([]string, 0, len(texts))
	for _, s := range texts {
		out = append(out, cut(s))
	}
	return out
}
