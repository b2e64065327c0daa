package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/mono"
)

const (
	// maxBatch is how many spans are sent in one request.
	maxBatch = 512
	// attempts is how often a request is made that the collector asks to repeat, or that does
	// not reach it. The pause between attempts is that of firstPause, doubled each time.
	attempts   = 3
	firstPause = time.Second
	// closeWait is how long Close waits for the collector.
	closeWait = 2 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 10
)

// wake makes the sender look at the queue.
func (t *Tracer) wake() {
	select {
	case t.full <- struct{}{}:
	default: // it is awake
	}
}

// run sends the spans until stop.
func (t *Tracer) run() {
	defer close(t.done)
	var spare []span
	for ending := false; !ending; {
		select {
		case <-t.full:
			ending = t.collect()
		case <-t.stop:
			ending = true
		}
		all := t.take(spare)
		for batch := range slices.Chunk(all, maxBatch) {
			t.send(batch)
		}
		spare = all
	}
}

// collect waits until a batch is full, or Interval has passed. It reports whether t is to end.
func (t *Tracer) collect() (ending bool) {
	timer := time.NewTimer(t.opt.Interval)
	defer timer.Stop()
	for {
		t.mu.Lock()
		n := len(t.waiting)
		t.mu.Unlock()
		if n >= maxBatch {
			return false
		}
		select {
		case <-t.full:
		case <-timer.C:
			return false
		case <-t.stop:
			return true
		}
	}
}

// take removes all spans from the queue, which continues in the memory of spare.
func (t *Tracer) take(spare []span) []span {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.waiting
	t.waiting = spare[:0]
	return all
}

// send sends a batch, and counts what became of it.
func (t *Tracer) send(batch []span) {
	body, err := proto.Marshal(t.encode(batch))
	rejected := 0
	if err == nil {
		rejected, err = t.deliver(body)
	}
	if rejected = min(rejected, len(batch)); rejected > 0 {
		t.metrics.rejected.Add(float64(rejected))
		t.metrics.sent.Add(float64(len(batch) - rejected))
		t.often.Warn(t.opt.Log, mono.Now(), "the collector has rejected spans of traced messages "+
			"(setting trace.endpoint)", "spans", rejected, "of", len(batch), "err", err)
		return
	}
	if err != nil {
		t.metrics.failed.Add(float64(len(batch)))
		t.often.Warn(t.opt.Log, mono.Now(),
			"spans of traced messages lost (setting trace.endpoint)", "spans", len(batch),
			"err", err)
		return
	}
	t.metrics.sent.Add(float64(len(batch)))
}

// deliver posts a body, again after a pause if that may help. Once t ends it tries once. rejected
// is the number of spans that the collector did not accept, for the reason err.
func (t *Tracer) deliver(body []byte) (rejected int, err error) {
	for attempt, pause := 1, firstPause; ; attempt, pause = attempt+1, 2*pause {
		var again bool
		again, rejected, err = t.post(body)
		if err == nil || !again || attempt == attempts {
			return rejected, err
		}
		select {
		case <-time.After(pause):
		case <-t.stop:
			return rejected, err
		}
	}
}

// post makes one request. again says that the error may be gone at the next one.
func (t *Tracer) post(body []byte) (again bool, rejected int, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.opt.Timeout)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	rq.Header.Set("Content-Type", "application/x-protobuf")
	rsp, err := t.client.Do(rq)
	if err != nil {
		var wrapped *url.Error // names the URL, which may hold a key
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return true, 0, fmt.Errorf("%s: %w", t.shown, err)
	}
	defer rsp.Body.Close()
	// It is read to the end so that the connection stays.
	answer, broken := io.ReadAll(io.LimitReader(rsp.Body, maxAnswer))
	switch rsp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		if broken != nil {
			return false, 0, nil // the collector has the spans
		}
		rejected, err := readAnswer(answer)
		if rejected > 0 {
			err = fmt.Errorf("%s: %w", t.shown, err)
		}
		return false, rejected, err
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout:
		again = true
	}
	return again, 0, fmt.Errorf("%s answers %s", t.shown, rsp.Status)
}

// Close sends the spans that wait, for two seconds at most and not after the end of ctx, and ends
// t. Those that are not sent by then, and those that are recorded later, are lost: a collector that
// does not answer must not keep a process from its end. The error is nil. A nil t is closed.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.once.Do(func() { close(t.stop) })
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-t.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	t.cancel() // the requests
	<-t.done
	t.client.CloseIdleConnections()
	return nil
}
