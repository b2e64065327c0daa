// Package axis chooses the ticks of the axes of charts, and their labels.
package axis

import (
	"math"
	"strconv"
)

// Tick is a value of an axis with its label.
type Tick struct {
	Value float64
	Label string
}

// Linear returns about n round values that enclose lo … hi.
func Linear(lo, hi float64, n int) []Tick {
	if hi <= lo {
		hi = lo + 1
	}
	raw := (hi - lo) / float64(n)
	base := math.Pow(10, math.Floor(math.Log10(raw)))
	every := 10 * base
	for _, f := range []float64{1, 2, 2.5, 5} {
		if f*base >= raw {
			every = f * base
			break
		}
	}
	var ticks []Tick
	first, last := math.Floor(lo/every), math.Ceil(hi/every-1e-9)
	for i := first; i <= last; i++ {
		v := i * every
		ticks = append(ticks, Tick{v, tickLabel(v, every)})
	}
	return ticks
}

// tickLabel formats a tick with as many digits as the distance between ticks needs.
func tickLabel(v, every float64) string {
	digits := max(0, int(math.Ceil(-math.Log10(every)-1e-9)))
	if math.Abs(every*math.Pow(10, float64(digits))-math.Round(every*math.Pow(10,
		float64(digits)))) > 1e-6 {
		digits++ // 2.5
	}
	if digits == 0 && math.Abs(v) < 1e15 {
		return Grouped(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', min(digits, 12), 64)
}

// Log returns 1, 2 and 5 of each power of ten, or only 1 where there are many, in
// the unit of the axis.
func Log(lo, hi float64) []Tick {
	steps := []float64{1, 2, 5}
	if hi-lo > 2.5 {
		steps = []float64{1}
	}
	var all []float64
	for e := math.Floor(lo) - 1; e <= math.Ceil(hi)+1; e++ {
		for _, s := range steps {
			all = append(all, e+math.Log10(s))
		}
	}
	const close = 1e-9
	first, last := 0, len(all)-1
	for first+1 < len(all) && all[first+1] <= lo+close {
		first++
	}
	for last > first+1 && all[last-1] >= hi-close {
		last--
	}
	var ticks []Tick
	for _, v := range all[first : last+1] {
		ticks = append(ticks, Tick{v, powerLabel(v)})
	}
	return ticks
}

func powerLabel(v float64) string {
	n := math.Pow(10, v)
	if n >= 0.9999 && n < 1e15 {
		return Grouped(int64(math.Round(n)))
	}
	return strconv.FormatFloat(n, 'g', 1, 64)
}

// Time returns ticks at round times that enclose lo … hi, in seconds, and the name
// of the axis.
func Time(lo, hi float64) ([]Tick, string) {
	if !(hi > lo) || math.Abs(lo) > 1e8 || hi > 1e8 {
		return nil, ""
	}
	every := 86400.0
	for _, e := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
		14400, 21600, 43200} {
		if (hi-lo)/e <= 12 {
			every = e
			break
		}
	}
	name := "seconds since counting began"
	if every >= 60 {
		name = "minutes since counting began"
	}
	if every >= 3600 {
		name = "hours since counting began"
	}
	var ticks []Tick
	for i := math.Floor(lo / every); i <= math.Ceil(hi/every-1e-9); i++ {
		v := i * every
		label := number0(v)
		if every >= 3600 {
			label = number0(v / 3600)
		} else if every >= 60 {
			label = number0(v / 60)
		}
		ticks = append(ticks, Tick{v, label})
	}
	for len(ticks) < 2 {
		v := ticks[len(ticks)-1].Value + every
		ticks = append(ticks, Tick{v, number0(v)})
	}
	return ticks, name
}

func number0(v float64) string { return Grouped(int64(math.Round(v))) }

// Grouped formats n with a comma between thousands.
func Grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
