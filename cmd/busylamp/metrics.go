package main

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/busylamp/busylamp"
	"github.com/busylamp/busylamp/adapters/sipnet"
)

// metrics reads the engine's and the adapters' counters when Prometheus asks.
type metrics struct{ s *sidecar }

func newMetrics(s *sidecar) *metrics { return &metrics{s} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("busylamp_"+name, help, labels, nil)
}

var (
	descEvents    = desc("call_events_total", "Call events taken by the engine.")
	descLate      = desc("call_events_late_total", "Call events that changed nothing: doubled, overtaken, or of an ended call.")
	descBadURI    = desc("call_parties_bad_uri_total", "Parties of calls whose URI cannot be a presentity.")
	descForeign   = desc("call_parties_foreign_total", "Parties of calls in no configured domain.")
	descOverflow  = desc("overflow_total", "Calls or tombstones dropped because a limit was reached.")
	descDoubts    = desc("doubts_total", "Times that events may have been lost.")
	descEpochs    = desc("proxy_restarts_total", "New lives of proxies seen.")
	descResyncs   = desc("resyncs_total", "Comparisons with a proxy's list of calls.", "result")
	descDrift     = desc("drift_total", "Differences found and healed by a comparison.", "cause")
	descChanges   = desc("presence_changes_total", "Changes of a presence.")
	descPublish   = desc("publish_total", "PUBLISH requests that have ended.", "publisher", "kind", "result")
	descAnswers   = desc("publish_answers_total", "Answers to PUBLISH by status code; 0 is none.", "publisher", "code")
	descDown      = desc("publisher_down", "Whether the server is silent, or said that it cannot serve, and is only probed.", "publisher")
	descRefused   = desc("publications_refused", "Publications whose last request was refused.", "publisher")
	descHop       = desc("publisher_hop_up", "Whether an address of the server is thought to be well.", "publisher", "address")
	descExpiry    = desc("publisher_certificate_expiry_timestamp_seconds", "When our certificate, or the server's, or what vouches for it, ends.", "publisher", "which")
	descUnkept    = desc("state_failing", "Whether what is published cannot be kept for the next start.")
	descUnwritten = desc("state_waiting", "Changes that are not durable yet.")
	descCalls     = desc("calls", "Calls that are up, as far as known.")
	descPeople    = desc("presentities", "Presentities with calls or publications.")
	descInFlight  = desc("publish_outstanding", "PUBLISH requests outstanding.", "publisher")
	descWaiting   = desc("publish_waiting", "Publications waiting for a free place.", "publisher")
	descConnected = desc("proxy_connected", "Whether events of the proxy arrive.", "proxy")
	descInStep    = desc("proxy_in_step", "Whether the proxy's list agreed with ours since the last doubt.", "proxy")
	descEvapi     = desc("evapi_total", "What arrived over evapi, and what went wrong there.", "proxy", "what")
)

var driftNames = map[busylamp.Drift]string{busylamp.DriftAbsent: "end_lost",
	busylamp.DriftUnseen: "start_lost", busylamp.DriftStage: "stage_lost"}

// Describe is part of prometheus.Collector. Nothing is described: what there is depends
// on the configuration.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	var st busylamp.Stats
	var proxies []busylamp.ProxyStatus
	err := m.s.look(context.Background(), func(e *busylamp.Engine) { st, proxies = e.Stats(), e.ProxyStatuses() })
	if err != nil {
		return
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count(descEvents, st.Events)
	count(descLate, st.Late)
	count(descBadURI, st.BadURI)
	count(descForeign, st.Foreign)
	count(descOverflow, st.Overflow)
	count(descDoubts, st.Doubts)
	count(descEpochs, st.NewEpochs)
	count(descResyncs, st.Resyncs, "asked")
	count(descResyncs, st.ResyncsFailed, "failed")
	count(descChanges, st.Changes)
	for d, name := range driftNames {
		count(descDrift, st.Drift[d], name)
	}
	_, failing := m.s.state.Failing()
	gauge(descUnkept, truth(failing != nil))
	gauge(descUnwritten, m.s.state.Waiting())
	gauge(descCalls, st.Calls)
	gauge(descPeople, st.People)
	for i, p := range m.s.cfg.Publishers {
		ps := st.Publishers[i]
		for k := busylamp.Initial; k <= busylamp.Remove; k++ {
			for r := busylamp.Accepted; r <= busylamp.Refused; r++ {
				count(descPublish, ps.Requests[k][r], p.Name, k.String(), r.String())
			}
		}
		for code, n := range ps.Codes {
			count(descAnswers, n, p.Name, strconv.Itoa(code))
		}
		gauge(descInFlight, ps.InFlight, p.Name)
		gauge(descWaiting, ps.Waiting, p.Name)
		gauge(descDown, truth(ps.Down), p.Name)
		gauge(descRefused, ps.Refused, p.Name)
		collectWay(ch, p.Name, m.s.publishers[i].Status())
	}
	if sources, err := m.s.sourceStatuses(context.Background()); err == nil {
		collectSources(ch, sources)
	}
	for _, p := range proxies {
		gauge(descConnected, truth(p.Connected), p.Name)
		gauge(descInStep, truth(p.InStep), p.Name)
	}
	for _, k := range m.s.events {
		k.Count.Each(func(what string, n uint64) { count(descEvapi, n, k.Name(), what) })
	}
}

// collectWay tells of a publisher's way to its server. An address is told of once: twice the
// same metric would cost the whole answer.
func collectWay(ch chan<- prometheus.Metric, publisher string, st sipnet.Status) {
	told := make(map[string]bool, len(st.Hops))
	for _, h := range st.Hops {
		if at := h.Address.String(); !told[at] {
			told[at] = true
			ch <- prometheus.MustNewConstMetric(descHop, prometheus.GaugeValue, float64(truth(h.Up)), publisher, at)
		}
	}
	for which, at := range map[string]time.Time{"own": st.Certificate, "server": st.ServerCertificate} {
		if !at.IsZero() {
			ch <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, float64(at.Unix()), publisher, which)
		}
	}
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
