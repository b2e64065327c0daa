//go:build unix

package trace

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkText measures what the six spans of a text in one process cost. Its metric cpu-ns/op is
// the processor time of the process, with what sends the spans and with the collector. Where other
// work runs, take the smallest of many runs:
//
//	go test ./core/trace -run '^$' -bench Text -benchtime 100000x -count 10
func BenchmarkText(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer s.Close()
	for name, ratio := range map[string]float64{"off": -1, "ratio=0.01": 0.01, "ratio=1": 1} {
		b.Run(name, func(b *testing.B) {
			var tr *Tracer
			if ratio >= 0 {
				tr, _ = New(Options{Endpoint: s.URL, Ratio: ratio})
			}
			begin := processorTime(b)
			for i := range b.N {
				recordText(tr, Of(1, 2, false, uint32(i)+1))
			}
			_ = tr.Close(context.Background())
			b.ReportMetric(float64(processorTime(b)-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}

// recordText records the spans of a text, as the handlers do.
func recordText(tr *Tracer, m Message) {
	for _, stage := range []Stage{Store, Queue, Commit, Deliver, Whole, Device} {
		if tr.Samples(m) {
			tr.Record(Span{Stage: stage, Message: m, Begin: time.Now(), End: time.Now()})
		}
	}
}

// processorTime returns the time that processors have worked for this process.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
