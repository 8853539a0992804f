package kamailio

import (
	"context"
	"fmt"
	"sync"

	"github.com/busylamp/busylamp"
)

// Truth asks a proxy for its dialogs: a [busylamp.Proxy].
type Truth struct{ rpc *RPC }

// NewTruth returns the truth behind an RPC client.
func NewTruth(rpc *RPC) *Truth { return &Truth{rpc} }

// List returns the dialogs that are up. It asks dlg.briefing for the few fields that
// identify a dialog, since dlg.list dies of some 5,000 of them (its answer does not fit
// Kamailio's private memory), and brackets it by the epoch.
func (t *Truth) List(ctx context.Context) (busylamp.Listing, error) {
	before, err := t.epoch(ctx)
	if err != nil {
		return busylamp.Listing{}, err
	}
	var dialogs []struct {
		Entry   uint32 `json:"h_entry"`
		ID      uint32 `json:"h_id"`
		State   int    `json:"state"`
		CallID  string `json:"call-id"`
		FromTag string `json:"from_tag"`
	}
	if err := t.rpc.call(ctx, &dialogs, "dlg.briefing", "scF"); err != nil {
		return busylamp.Listing{}, err
	}
	after, err := t.epoch(ctx)
	if err != nil {
		return busylamp.Listing{}, err
	}
	if before != after {
		return busylamp.Listing{}, fmt.Errorf("the proxy restarted while it was asked: epoch %s, then %s", before, after)
	}
	l := busylamp.Listing{Epoch: after}
	for _, d := range dialogs {
		if stage := stageOf(d.State); stage != busylamp.Ended {
			l.Live = append(l.Live, busylamp.Listed{
				Dialog: busylamp.DialogID{Entry: d.Entry, ID: d.ID}, Stage: stage,
				CallID: rawString(d.CallID), FromTag: rawString(d.FromTag)})
		}
	}
	return l, nil
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

func (t *Truth) epoch(ctx context.Context) (string, error) {
	var reply struct{ Item struct{ Value string } }
	if err := t.rpc.call(ctx, &reply, "htable.get", "busylamp", "epoch"); err != nil {
		return "", err
	}
	if !isEpoch([]byte(reply.Item.Value)) {
		return "", fmt.Errorf("rpc htable.get busylamp epoch: %.80q is no epoch", reply.Item.Value)
	}
	return reply.Item.Value, nil
}

const (
	detailBatch   = 128 // events handed over at a time
	detailWorkers = 2   // requests to the proxy at a time
)

// Details asks for dialogs one by one: who talks is in the dialog's variables, which
// only dlg.list and dlg.dlg_list tell.
func (t *Truth) Details(ctx context.Context, wanted []busylamp.Listed, emit func([]busylamp.CallEvent)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var workers sync.WaitGroup
	share := (len(wanted) + detailWorkers - 1) / detailWorkers
	for from := 0; from < len(wanted); from += share {
		part := wanted[from:min(from+share, len(wanted))]
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

func (t *Truth) details(ctx context.Context, wanted []busylamp.Listed, emit func([]busylamp.CallEvent)) error {
	var events []busylamp.CallEvent
	for i, d := range wanted {
		ev, err := t.detail(ctx, d)
		if err != nil {
			return err
		}
		if ev.Stage == busylamp.Early || ev.Stage == busylamp.Confirmed {
			events = append(events, ev)
		}
		if len(events) == detailBatch || i == len(wanted)-1 && len(events) > 0 {
			emit(events)
			events = nil
		}
	}
	return nil
}

// detail asks for one dialog; the event's Stage is 0 or Ended if it is over.
func (t *Truth) detail(ctx context.Context, d busylamp.Listed) (busylamp.CallEvent, error) {
	var dialog struct {
		Entry     uint32              `json:"h_entry"`
		ID        uint32              `json:"h_id"`
		State     int                 `json:"state"`
		FromURI   string              `json:"from_uri"`
		Variables []map[string]string `json:"variables"`
	}
	if err := t.rpc.call(ctx, &dialog, "dlg.dlg_list", d.CallID, d.FromTag); err != nil {
		return busylamp.CallEvent{}, err
	}
	if dialog.Entry != d.Dialog.Entry || dialog.ID != d.Dialog.ID {
		return busylamp.CallEvent{}, nil // over, or another dialog of the same Call-ID
	}
	ev := busylamp.CallEvent{Dialog: d.Dialog, Stage: stageOf(dialog.State),
		Caller: rawString(dialog.FromURI), CallID: d.CallID[:min(len(d.CallID), maxCallID)]}
	for _, v := range dialog.Variables {
		for name, value := range v {
			switch name {
			case "busylamp_caller":
				ev.Caller = rawString(value)
			case "busylamp_callee":
				ev.Callee = rawString(value)
			}
		}
	}
	return ev, nil
}
