package report

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"teamtalk/bench"
	"teamtalk/bench/report/axis"
)

// nines returns the place of a percentile on the axis of a percentile curve. Each further
// nine is one step to the right. The median is at 0.3.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

// maxHistogram bounds the text of a histogram, in bytes. A histogram of microseconds up
// to minutes takes some tens of kilobytes.
const maxHistogram = 8 << 20

// curve returns the points of the percentile curve of l: nines, and milliseconds. Without
// a histogram it uses the percentiles of l.
func curve(l *bench.Latency) (xs, ys []float64, err error) {
	add := func(x, y float64) {
		if y > 0 && !math.IsNaN(y) && !math.IsInf(y, 0) {
			xs, ys = append(xs, x), append(ys, y)
		}
	}
	if l.Count <= 0 {
		return nil, nil, nil
	}
	last := math.Log10(float64(max(10, l.Count))) // the highest percentile is that of one in all
	if l.Histogram == "" {
		for _, p := range []struct{ percentile, ms float64 }{{50, l.P50}, {90, l.P90}, {99, l.P99},
			{99.9, l.P999}} {
			if x := nines(p.percentile); x < last {
				add(x, p.ms)
			}
		}
		add(last, l.Max)
		return xs, ys, nil
	}
	h, err := decodeHistogram(l.Histogram)
	if err != nil {
		return nil, nil, err
	}
	const points = 240
	last = math.Log10(float64(max(10, h.TotalCount())))
	for i := range points + 1 {
		x := last * float64(i) / points
		add(x, float64(h.ValueAtPercentile(100*(1-math.Pow(10, -x))))/1000)
	}
	return xs, ys, nil
}

// decodeHistogram decodes a histogram of microseconds.
func decodeHistogram(text string) (h *hdrhistogram.Histogram, err error) {
	if len(text) > maxHistogram {
		return nil, errors.New("histogram: too long")
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	// The library does not check its input: counts that contradict the header make it
	// panic.
	defer func() {
		if p := recover(); p != nil {
			h, err = nil, fmt.Errorf("histogram: invalid:  %v", p)
		}
	}()
	if h, err = hdrhistogram.Decode([]byte(text)); err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	return h, nil
}

// nineTicks returns the ticks of a percentile curve up to a value of nines.
func nineTicks(upTo float64) []axis.Tick {
	at := func(v float64, label string) axis.Tick { return axis.Tick{Value: v, Label: label} }
	ticks := []axis.Tick{at(0, "0"), at(nines(50), "50"), at(1, "90"), at(2, "99")}
	for n := 3; n < 12 && float64(n-1) < upTo; n++ {
		ticks = append(ticks, at(float64(n), "99."+strings.Repeat("9", n-2)))
	}
	return ticks
}
