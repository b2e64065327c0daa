package live

import (
	"math"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
)

// rig has a ring over some of its metrics.
type rig struct {
	*Ring
	received *prometheus.CounterVec
	online   prometheus.Gauge
	ack      prometheus.Histogram
	now      time.Time
}

func newRig() *rig {
	reg := prometheus.NewRegistry()
	r := &rig{Ring: New(reg), now: time.Unix(1_000_000, 0),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msg_received_total"}, []string{"type"}),
		online: prometheus.NewGauge(prometheus.GaugeOpts{Name: "teamtalk_msg_users_online"}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "teamtalk_msg_ack_seconds",
			Buckets: []float64{0.01, 0.02, 0.1}})}
	reg.MustRegister(r.received, r.online, r.ack)
	r.Sample(r.now)
	return r
}

// pass lets an interval pass, and samples.
func (r *rig) pass() {
	r.now = r.now.Add(Interval)
	r.Sample(r.now)
}

// value returns a value of a sample.
func value(s Sample, name string) float64 { return s.Values[slices.Index(Names(), name)] }

// TestSamples: rates are those of all labels since the sample before, and latencies those of
// the events since then.
func TestSamples(t *testing.T) {
	r := newRig()
	if got := r.Since(time.Time{}, 1); len(got) != 0 {
		t.Fatalf("samples after one reading: %v", got)
	}
	r.received.WithLabelValues("text").Add(30)
	r.received.WithLabelValues("audio").Add(20)
	r.online.Set(7)
	for range 100 {
		r.ack.Observe(0.015)
	}
	r.pass()
	r.online.Set(9)
	r.ack.Observe(5)
	r.pass()
	r.pass()
	got := r.Since(time.Time{}, 1)
	if len(got) != 3 {
		t.Fatalf("%d samples, want 3", len(got))
	}
	for _, x := range []struct {
		sample int
		name   string
		want   float64
	}{
		{0, "messages_received_per_s", 5}, {1, "messages_received_per_s", 0},
		{0, "users_online", 7}, {2, "users_online", 9},
		{0, "ack_p50_s", 0.015}, {1, "ack_p50_s", 0.1}, {2, "ack_p50_s", math.NaN()},
		{0, "push_queue", math.NaN()},
	} {
		v := value(got[x.sample], x.name)
		if math.Abs(v-x.want) > 1e-9 || math.IsNaN(v) != math.IsNaN(x.want) {
			t.Errorf("sample %d: %s is %v, want %v", x.sample, x.name, v, x.want)
		}
	}
	means := r.Since(time.Time{}, 2)
	if len(means) != 2 || value(means[0], "users_online") != 8 ||
		value(means[0], "messages_received_per_s") != 2.5 ||
		!means[0].Time.Equal(got[1].Time) {
		t.Errorf("means of two: %+v", means)
	}
	if got := r.Since(got[0].Time, 1); len(got) != 2 {
		t.Errorf("%d samples after the first, want 2", len(got))
	}
}

// TestBounded: the ring keeps the samples of an hour, in less than 96 KiB.
func TestBounded(t *testing.T) {
	r := newRig()
	for range 2*Kept + 5 {
		r.pass()
	}
	got := r.Since(time.Time{}, 1)
	if len(got) != Kept || !got[0].Time.Equal(r.now.Add(-(Kept-1)*Interval)) ||
		!got[Kept-1].Time.Equal(r.now) {
		t.Errorf("%d samples from %v to %v", len(got), got[0].Time, got[len(got)-1].Time)
	}
	size := Kept * (int(unsafe.Sizeof(Sample{})) + len(all)*8)
	t.Logf("%d bytes", size)
	if size > 96<<10 {
		t.Errorf("%d bytes", size)
	}
}

// BenchmarkSample measures a sample of the metrics of the Go runtime and of a process, beside a
// histogram.
func BenchmarkSample(b *testing.B) {
	reg := obs.NewRegistry(obs.Version{})
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "teamtalk_msg_ack_seconds"})
	reg.MustRegister(h)
	r := New(reg)
	now := time.Unix(1e9, 0)
	for b.Loop() {
		now = now.Add(Interval)
		r.Sample(now)
	}
}
