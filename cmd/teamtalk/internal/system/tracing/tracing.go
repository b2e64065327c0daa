// Package tracing connects the traces of messages with the settings, and with the batches of a
// dbproxy server.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/config"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/trace"
	"teamtalk/handlers/dbproxy"
)

// Open returns the tracer of the settings; nil when they name no collector. node names this
// process. The caller must close it.
func Open(cfg *config.Trace, node string, v obs.Version, log *slog.Logger,
	reg prometheus.Registerer) (*trace.Tracer, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	t, err := trace.New(trace.Options{Endpoint: cfg.Endpoint.Reveal(), Ratio: cfg.Ratio, Node: node,
		Version: v.Version, Log: log, Registerer: reg})
	if err != nil {
		return nil, fmt.Errorf("%w (section trace)", err)
	}
	return t, nil
}

// Batches returns run with spans of the messages that it stored: of the wait of each for the batch,
// and of the batch.
func Batches(t *trace.Tracer,
	run func(context.Context, []*dbproxy.Pending)) func(context.Context, []*dbproxy.Pending) {
	if !t.On() {
		return run
	}
	return func(ctx context.Context, batch []*dbproxy.Pending) {
		begin := mono.Now()
		run(ctx, batch)
		record(t, batch, begin, mono.Now())
	}
}

// record records the spans of a batch. A message that was stored before has those of its first
// batch.
func record(t *trace.Tracer, batch []*dbproxy.Pending, begin, end time.Time) {
	for _, p := range batch {
		row, came := p.Outcome()
		if row.Err != nil || row.Duplicate {
			continue
		}
		m := trace.Of(row.From, row.To, row.Type.IsGroup(), row.ID)
		t.Record(trace.Span{Stage: trace.Queue, Message: m, Begin: came, End: begin})
		t.Record(trace.Span{Stage: trace.Commit, Message: m, Begin: begin, End: end,
			Count: len(batch)})
	}
}
