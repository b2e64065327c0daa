package report

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"

	"teamtalk/bench"
)

// nines is where a percentile stands on the axis of a percentile curve: each further nine is one step to the right. The median is at 0.3.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

// maxHistogram bounds the text of a histogram, in bytes; one of microseconds up to minutes has some tens of kilobytes.
const maxHistogram = 8 << 20

// curve returns points of the percentile curve of l: nines, and milliseconds. Without a histogram it goes through the percentiles there are.
func curve(l *bench.Latency) (xs, ys []float64, err error) {
	add := func(x, y float64) {
		if y > 0 && !math.IsNaN(y) && !math.IsInf(y, 0) {
			xs, ys = append(xs, x), append(ys, y)
		}
	}
	if l.Count <= 0 {
		return nil, nil, nil
	}
	last := math.Log10(float64(max(10, l.Count))) // there is no percentile closer to 100 than one of all
	if l.Histogram == "" {
		for _, p := range []struct{ percentile, ms float64 }{{50, l.P50}, {90, l.P90}, {99, l.P99}, {99.9, l.P999}} {
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

// decodeHistogram reads one of microseconds.
func decodeHistogram(text string) (h *hdrhistogram.Histogram, err error) {
	if len(text) > maxHistogram {
		return nil, errors.New("histogram: too long")
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	// The library trusts what it reads: counts that do not fit their header make it panic.
	defer func() {
		if p := recover(); p != nil {
			h, err = nil, fmt.Errorf("histogram: broken: %v", p)
		}
	}()
	if h, err = hdrhistogram.Decode([]byte(text)); err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	return h, nil
}
