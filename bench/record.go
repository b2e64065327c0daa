package bench

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// op is a kind of event whose latency is measured.
type op uint8

const (
	opNone op = iota
	opAck
	opDelivery
	opLogin
	opLogout
	opHeartbeat
	opCreateGroup
	opSessions
	opUnread
	opUsers
	opDepartments
	opGroups
	opGroupInfos
	opHistory
	opPresence
	opFirstSync
	opUpload
	opDownload
	opRelay
	opFileRequest
	ops // number of kinds
)

// opNames are the names in Result.Latencies.
var opNames = [ops]string{"", "ack", "delivery", "login", "logout", "heartbeat", "group create",
	"sessions", "unread", "users", "departments", "groups",
	"group infos", "history", "presence", "first sync", "upload", "download", "relay",
	"file request"}

// counter is a kind of event that is counted.
type counter uint8

const (
	countSent counter = iota
	countAcked
	countDelivered
	countLogins
	countLogouts
	countHeartbeats
	countGroupSent
	countAnswered
	countReads
	countTyping
	countFiles
	countFileBytes
	counters // number of kinds
)

// counterNames are the names in Result.Totals.
var counterNames = [counters]string{TotalSent, TotalAcked, TotalDelivered, TotalLogins, "logouts",
	"heartbeats", TotalGroupTexts, "answered", "reads", "typing", TotalFiles,
	TotalFileBytes}

// maxLatency bounds the histograms, in microseconds.
const maxLatency = 600_000_000

// newHistogram returns a histogram of microseconds with three significant digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, 3) }

// recorder records the events of one loop in one interval.
type recorder struct {
	counts [counters]int64
	// latencies by op: of events that were due while counting, and of the others
	counted, other [ops]*hdrhistogram.Histogram
}

// took records a latency, in nanoseconds.
func (r *recorder) took(o op, nanos int64, counts bool) {
	hs := &r.other
	if counts {
		hs = &r.counted
	}
	if hs[o] == nil {
		hs[o] = newHistogram()
	}
	_ = hs[o].RecordValue(min(maxLatency, max(1, nanos/1000))) // within the range of the histogram
}

// begun returns the number of events started that a schedule may have set.
func (r *recorder) begun() int64 {
	return r.counts[countSent] + r.counts[countLogins] + r.counts[countAnswered] +
		r.counts[countReads] + r.counts[countTyping]
}

// merge adds the values of another recorder.
func (r *recorder) merge(from *recorder) {
	for i, n := range from.counts {
		r.counts[i] += n
	}
	for i := range ops {
		mergeInto(&r.counted[i], from.counted[i])
		mergeInto(&r.other[i], from.other[i])
	}
}

func mergeInto(to **hdrhistogram.Histogram, from *hdrhistogram.Histogram) {
	if from == nil || from.TotalCount() == 0 {
		return
	}
	if *to == nil {
		*to = newHistogram()
	}
	(*to).Merge(from)
}

// reset clears the values and keeps the memory of the histograms.
func (r *recorder) reset() {
	r.counts = [counters]int64{}
	for i := range ops {
		if r.counted[i] != nil {
			r.counted[i].Reset()
		}
		if r.other[i] != nil {
			r.other[i].Reset()
		}
	}
}

// latencyOf summarizes a histogram.
func latencyOf(h *hdrhistogram.Histogram, whole bool) Latency {
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	l := Latency{Count: h.TotalCount(), Mean: h.Mean() / 1000, P50: ms(h.ValueAtQuantile(50)),
		P90: ms(h.ValueAtQuantile(90)),
		P99: ms(h.ValueAtQuantile(99)), P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max())}
	if whole {
		b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err == nil {
			l.Histogram = string(b)
		}
	}
	return l
}

// maxExamples bounds Checks.Examples.
const maxExamples = 20

// example adds a sentence to the examples.
func (c *Checks) example(format string, args ...any) {
	if len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, fmt.Sprintf(format, args...))
	}
}

// add adds the counts of from.
func (c *Checks) add(from *Checks) {
	c.Unacked += from.Unacked
	c.Lost += from.Lost
	c.Duplicates += from.Duplicates
	c.Reordered += from.Reordered
	c.Corrupt += from.Corrupt
	c.Broken += from.Broken
	c.Refused += from.Refused
	c.Behind += from.Behind
	for _, e := range from.Examples {
		c.example("%s", e)
	}
}

// clock formats a time of day, for examples.
func clock(nanos int64) string { return time.Unix(0, nanos).Format("15:04:05.000000") }
