package kamailio

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/busylamp/busylamp"
)

// Truth asks a proxy for its dialogs: a [busylamp.Proxy].
type Truth struct {
	rpc  *RPC
	dump *dumper // nil: the proxy is asked for answers, not for files
}

// NewTruth returns the truth behind an RPC client.
func NewTruth(rpc *RPC) *Truth { return &Truth{rpc: rpc} }

// NewTruthByFile returns the truth of a proxy that writes its dialogs into files (see
// dump.go) in a directory of this host, which is made if it is missing. It is ours alone;
// Kamailio's user must be able to pass through what is above it. Where that fails, the proxy
// is asked as without; warn is told when that begins, and gets nil when it has ended.
func NewTruthByFile(rpc *RPC, dir string, warn func(error)) *Truth {
	return &Truth{rpc: rpc, dump: &dumper{rpc: rpc, dir: dir, warn: warn, reserved: dumpLeast}}
}

// List returns the dialogs that are up: who and in which state, no more.
func (t *Truth) List(ctx context.Context) (busylamp.Listing, error) {
	before, err := t.epoch(ctx)
	if err != nil {
		return busylamp.Listing{}, err
	}
	live, err := t.live(ctx)
	if err != nil {
		return busylamp.Listing{}, err
	}
	after, err := t.epoch(ctx)
	if err != nil {
		return busylamp.Listing{}, err
	}
	if before != after {
		return busylamp.Listing{}, fmt.Errorf("rpc %s: the proxy restarted while it was asked: epoch %s, then %s",
			t.rpc.addr, before, after)
	}
	return busylamp.Listing{Epoch: after, Live: live}, nil
}

// live asks in the way that there is. For an answer, Kamailio needs twice its size of
// private memory, 8 MB by default (dlg.list dies of 5,000 dialogs), and a time that grows
// with the square of their number.
func (t *Truth) live(ctx context.Context) (live []busylamp.Listed, err error) {
	var failed error
	if t.dump != nil && t.dump.due() {
		if live, failed = t.dump.list(ctx); failed == nil {
			t.dump.worked(nil)
			return live, nil
		}
		live = nil
	}
	dialogs, err := t.briefing(ctx, "s")
	if failed != nil && err == nil { // a proxy that does not answer says nothing of its dumps
		t.dump.worked(failed)
	}
	for _, d := range dialogs {
		if stage := stageOf(d.State); stage != busylamp.Ended {
			live = append(live, busylamp.Listed{Dialog: d.dialog(), Stage: stage})
		}
	}
	return live, err
}

// brief is an element of dlg.briefing's answer, with the fields that were asked for.
type brief struct {
	Entry   uint32 `json:"h_entry"`
	ID      uint32 `json:"h_id"`
	State   int    `json:"state"`    // s
	CallID  string `json:"call-id"`  // c
	FromTag string `json:"from_tag"` // F
}

func (b *brief) dialog() busylamp.DialogID { return busylamp.DialogID{Entry: b.Entry, ID: b.ID} }

func (t *Truth) briefing(ctx context.Context, fields string) (all []brief, err error) {
	err = t.rpc.call(ctx, &all, "dlg.briefing", fields)
	return all, err
}

// stageOf maps the states of Kamailio's dialog module: 1 unconfirmed, 2 early, 3
// confirmed (no ACK yet), 4 confirmed, 5 deleted.
func stageOf(state int) busylamp.Stage {
	switch state {
	case 1, 2:
		return busylamp.Early
	case 3, 4:
		return busylamp.Confirmed
	default:
		return busylamp.Ended
	}
}

// epochTime bounds the smallest of questions.
const epochTime = 5 * time.Second

func (t *Truth) epoch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, epochTime)
	defer cancel()
	var reply struct{ Item struct{ Value string } }
	if err := t.rpc.call(ctx, &reply, "htable.get", "busylamp", "epoch"); err != nil {
		return "", err
	}
	if !isEpoch([]byte(reply.Item.Value)) {
		return "", fmt.Errorf("rpc %s: htable.get busylamp epoch: %.80q is no epoch (is busylamp.cfg included?)",
			t.rpc.addr, reply.Item.Value)
	}
	return reply.Item.Value, nil
}

const (
	detailBatch   = 128 // events handed over at a time
	detailWorkers = 2   // requests to the proxy at a time, of a tenth of a millisecond each
	// maxAsked bounds a Call-ID and its tag, of bytes that take six each, so that the
	// request fits a FIFO and Kamailio's buffers.
	maxAsked = 600
)

// asked is how Kamailio wants a dialog to be named.
type asked struct {
	dialog          busylamp.DialogID
	callID, fromTag string
}

// Details asks for dialogs one by one: who talks is in the dialog's variables, which
// only dlg.list and dlg.dlg_list tell.
func (t *Truth) Details(ctx context.Context, wanted []busylamp.Listed, emit func([]busylamp.CallEvent)) error {
	if t.dump != nil && t.dump.last != nil {
		return t.dump.details(ctx, wanted, emit)
	}
	if len(wanted) == 0 {
		return nil
	}
	names, err := t.names(ctx, wanted)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var workers sync.WaitGroup
	share := (len(names) + detailWorkers - 1) / detailWorkers
	for from := 0; from < len(names); from += share {
		part := names[from:min(from+share, len(names))]
		workers.Go(func() {
			err := t.details(ctx, part, func(events []busylamp.CallEvent) {
				mu.Lock()
				defer mu.Unlock()
				emit(events)
			})
			if err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// names asks what the dialogs are called, once for all of them. A Call-ID that is too long
// to be asked for, as no phone makes it, is left out.
func (t *Truth) names(ctx context.Context, wanted []busylamp.Listed) ([]asked, error) {
	all, err := t.briefing(ctx, "c")
	if err != nil {
		return nil, err
	}
	callIDs := make(map[busylamp.DialogID]string, len(all))
	uses := make(map[string]int, len(all))
	for _, b := range all {
		callIDs[b.dialog()] = b.CallID
		uses[b.CallID]++
	}
	var names []asked
	var tags map[busylamp.DialogID]string
	for _, w := range wanted {
		callID := callIDs[w.Dialog]
		if callID != "" && uses[callID] > 1 && tags == nil { // a stranger has borrowed it
			if tags, err = t.tags(ctx); err != nil {
				return nil, err
			}
		}
		a := asked{w.Dialog, rawString(callID), rawString(tags[w.Dialog])}
		if a.callID != "" && len(a.callID)+len(a.fromTag) <= maxAsked {
			names = append(names, a)
		}
	}
	return names, nil
}

// tags asks for the tags of all callers.
func (t *Truth) tags(ctx context.Context) (map[busylamp.DialogID]string, error) {
	all, err := t.briefing(ctx, "F")
	tags := make(map[busylamp.DialogID]string, len(all))
	for _, b := range all {
		tags[b.dialog()] = b.FromTag
	}
	return tags, err
}

func (t *Truth) details(ctx context.Context, names []asked, emit func([]busylamp.CallEvent)) error {
	var events []busylamp.CallEvent
	for i, a := range names {
		ev, err := t.detail(ctx, a)
		if err != nil {
			return err
		}
		if ev.Stage == busylamp.Early || ev.Stage == busylamp.Confirmed {
			events = append(events, ev)
		}
		if len(events) == detailBatch || i == len(names)-1 && len(events) > 0 {
			emit(events)
			events = nil
		}
	}
	return nil
}

// detail asks for one dialog; the event's Stage is 0 or Ended if it is over.
func (t *Truth) detail(ctx context.Context, a asked) (busylamp.CallEvent, error) {
	var dialog struct {
		Entry     uint32              `json:"h_entry"`
		ID        uint32              `json:"h_id"`
		State     int                 `json:"state"`
		Timeout   int64               `json:"timeout"` // Unix time
		FromURI   string              `json:"from_uri"`
		Variables []map[string]string `json:"variables"`
	}
	params := []string{a.callID}
	if a.fromTag != "" {
		params = append(params, a.fromTag)
	}
	if err := t.rpc.call(ctx, &dialog, "dlg.dlg_list", params...); err != nil {
		return busylamp.CallEvent{}, err
	}
	if dialog.Entry != a.dialog.Entry || dialog.ID != a.dialog.ID {
		return busylamp.CallEvent{}, nil // over, or another dialog of the same Call-ID
	}
	ev := busylamp.CallEvent{Dialog: a.dialog, Stage: stageOf(dialog.State),
		Caller: rawString(dialog.FromURI), CallID: a.callID[:min(len(a.callID), maxCallID)],
		Lapses: t.lapses(dialog.Timeout)}
	for _, v := range dialog.Variables {
		for name, value := range v {
			setParty(&ev, name, value)
		}
	}
	return ev, nil
}

// setParty takes a dialog variable that says who takes part.
func setParty(ev *busylamp.CallEvent, name, value string) {
	switch name {
	case "busylamp_caller":
		ev.Caller = rawString(value)
	case "busylamp_callee":
		ev.Callee = rawString(value)
	}
}

// lapses returns how long a proxy on this host, whose clock is ours, still gives a dialog.
func (t *Truth) lapses(timeout int64) time.Duration {
	if !t.rpc.here {
		return 0
	}
	return lapses(timeout, time.Now())
}

// lapses returns how long the proxy still gives a dialog, of which it said at some time by
// its host's clock, which is ours, when it times out. 0: it did not say.
func lapses(timeout int64, said time.Time) time.Duration {
	if timeout == 0 {
		return 0
	}
	return max(time.Unix(timeout, 0).Sub(said), time.Second)
}
