package msg

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits and delays of the parts, which the tests here wait for and exceed.
const (
	fightGap      = 5 * time.Second // admission
	fightMemory   = time.Minute
	refusedMemory = time.Minute

	audioHead     = 4 // conversation
	lookBack      = 50
	maxHeldReads  = 4096
	freeReads     = 128
	maxAllReads   = 1 << 18
	readRate      = 50.0
	readBurst     = 100.0
	flushRate     = 1000
	flushBurst    = 8192
	maxRemembered = 8
	rememberFor   = 15 * time.Second

	gapWait         = time.Second // group
	settleWait      = 100 * time.Millisecond
	memberAge       = 30 * time.Second
	loadPause       = 200 * time.Millisecond
	loadWait        = 2 * time.Second
	maxLoadPause    = time.Second
	loadFor         = 15 * time.Second
	maxWaiting      = 1024
	maxWaitingBytes = 64 << 20

	maxQueries   = 256 // passing
	maxAsked     = 16
	profileBurst = 10
	maxStats     = 50_000
	p2pBurst     = 40.0
	maxP2P       = 4096

	missedAfter = 3 * time.Second // peers

	maxContacts = 300 // presence

	fileBurst = 200.0 // transfer
)

// kept returns the size of a field of a part that the test cannot see: the length of a
// list or map, or the value of a number. A leak shows in it.
func kept(t testing.TB, part any, path ...string) int {
	t.Helper()
	v := reflect.ValueOf(part)
	for _, name := range path {
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return 0
			}
			v = v.Elem()
		}
		if v = v.FieldByName(name); !v.IsValid() {
			t.Fatalf("%T has no %v", part, path)
		}
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len()
	case reflect.Struct:
		// Other goroutines write it.
		p := reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Interface()
		return int(p.(*atomic.Int64).Load())
	}
	if v.CanUint() {
		return int(v.Uint())
	}
	return int(v.Int())
}

// registry collects the metrics of a server. Several routers of one role register the
// same ones.
type registry struct {
	prometheus.Registerer
	reg *prometheus.Registry
}

func newRegistry() *registry {
	reg := prometheus.NewRegistry()
	return &registry{Registerer: reg, reg: reg}
}

// MustRegister registers the collectors that are not registered yet.
func (r *registry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = r.reg.Register(c)
	}
}

// counted returns a metric of the server, whose name is short of its prefix, by the value
// of its label, if it has one.
func (w *world) counted(name string, label ...string) float64 {
	w.t.Helper()
	return w.countedAs("teamtalk_msg_"+name, label...)
}

// countedAs returns a metric by its whole name and the values of its labels.
func (w *world) countedAs(name string, label ...string) float64 {
	w.t.Helper()
	families, err := w.metrics.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if fmt.Sprint(values) == fmt.Sprint(label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// sampled returns the number and the sum of a histogram's samples. The histogram has no
// labels, and its name is short of its prefix.
func (w *world) sampled(name string) (count uint64, sum float64) {
	w.t.Helper()
	synctest.Wait()
	families, err := w.metrics.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "teamtalk_msg_"+name {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	return 0, 0
}
