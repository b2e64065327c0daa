package report

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"strconv"

	draw "github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// chart is a drawing with two axes, for a page: lines, marks, and a legend. Its colours are classes that the page's style sheet fills, so that it is
// light or dark as the page is.
type chart struct {
	Title  string
	XName  string
	YName  string
	Lines  []line
	Rules  []rule // upright and level lines
	Note   string // below it
	log    bool   // the y axis is logarithmic
	xticks []draw.Tick
}

// line is one of a chart's. A NaN is a gap.
type line struct {
	Name   string
	Class  string // c1 … c8, or mark
	xs, ys []float64
	dots   bool // points, not joined
}

// rule is a line from edge to edge: at x, or, when level is set, at y.
type rule struct {
	Name  string
	Class string
	at    float64
	level bool
}

// A chart is drawn in units of half a pixel of the page, since the library knows only whole ones.
const (
	chartWidth  = 1200
	chartHeight = 460
	chartDPI    = 184 // twice the library's own
)

// seriesClass is the look of line i: its colour, dashed when the colours are used up.
func seriesClass(i int) string {
	class := "c" + strconv.Itoa(i%8+1)
	if i%16 >= 8 {
		class += " dash"
	}
	return class
}

// SVG draws the chart; "" when there is nothing in it.
func (c *chart) SVG() (template.HTML, error) {
	lo, hi, xlo, xhi, ok := c.bounds()
	if !ok {
		return "", nil
	}
	yticks := linearTicks(0, hi*1.02, 5) // so that a level line is not the frame
	if c.log {
		yticks = logTicks(lo, hi)
	}
	xticks := c.xticks
	if xticks == nil {
		xticks = linearTicks(xlo, xhi, 9)
	}
	x0, x1 := xticks[0].Value, xticks[len(xticks)-1].Value
	y0, y1 := yticks[0].Value, yticks[len(yticks)-1].Value
	g := draw.Chart{
		Width: chartWidth, Height: chartHeight, DPI: chartDPI,
		Background: draw.Style{ClassName: "bg", Padding: draw.Box{Top: 24, Left: 24, Right: 40, Bottom: 16, IsSet: true}},
		Canvas:     draw.Style{ClassName: "bg"},
		XAxis:      draw.XAxis{Name: c.XName, NameStyle: style("axis"), Style: style("axis"), Ticks: xticks},
		// The library's second axis is the left one, and its grid lines have no class: they are drawn as series.
		YAxis:          draw.YAxis{Style: draw.Hidden(), Range: &draw.ContinuousRange{Min: 0, Max: 1}},
		YAxisSecondary: draw.YAxis{Style: style("axis"), Ticks: yticks},
	}
	hide := draw.Hidden()
	g.XAxis.GridMajorStyle, g.XAxis.GridMinorStyle = hide, hide
	g.YAxisSecondary.GridMajorStyle, g.YAxisSecondary.GridMinorStyle, g.YAxisSecondary.Zero.Style = hide, hide, hide
	for _, t := range yticks {
		g.Series = append(g.Series, series("grid", []float64{x0, x1}, []float64{t.Value, t.Value}))
	}
	for _, t := range xticks {
		g.Series = append(g.Series, series("grid", []float64{t.Value, t.Value}, []float64{y0, y1}))
	}
	for _, r := range c.Rules {
		if at := c.y(r.at); r.level && at >= y0 && at <= y1 {
			g.Series = append(g.Series, series(r.Class, []float64{x0, x1}, []float64{at, at}))
		} else if !r.level && r.at >= x0 && r.at <= x1 {
			g.Series = append(g.Series, series(r.Class, []float64{r.at, r.at}, []float64{y0, y1}))
		}
	}
	for _, l := range c.Lines {
		g.Series = append(g.Series, c.series(&l, y0)...)
	}
	var b bytes.Buffer
	if err := g.Render(draw.SVG, &b); err != nil {
		return "", fmt.Errorf("draw %q: %w", c.Title, err)
	}
	return template.HTML(b.String()), nil
}

// style has a class; the colour only tells the library that there is a stroke.
func style(class string) draw.Style {
	return draw.Style{ClassName: class, StrokeWidth: 1, StrokeColor: drawing.ColorBlack, FontStyle: draw.FontStyle{FontSize: 10, FontColor: drawing.ColorBlack}}
}

func series(class string, xs, ys []float64) draw.Series {
	return draw.ContinuousSeries{Style: style(class), YAxis: draw.YAxisSecondary, XValues: xs, YValues: ys}
}

// y is where a value stands on the y axis; what a logarithm has no place for is a gap.
func (c *chart) y(v float64) float64 {
	switch {
	case math.IsInf(v, 0):
		return math.NaN()
	case c.log && v <= 0:
		return math.NaN()
	case c.log:
		return math.Log10(v)
	}
	return v
}

// series are the pieces of a line between its gaps. Marks without a height stand on the floor.
func (c *chart) series(l *line, floor float64) []draw.Series {
	var out []draw.Series
	var xs, ys []float64
	flush := func() {
		switch {
		case len(xs) == 0:
		case l.dots || len(xs) == 1: // one point has no line
			s := style(l.Class)
			s.StrokeWidth = draw.Disabled
			s.DotWidth, s.DotColor = 6, drawing.ColorBlack
			if l.dots && l.Class == "mark" {
				s.DotWidth = 9
			}
			out = append(out, draw.ContinuousSeries{Style: s, YAxis: draw.YAxisSecondary, XValues: xs, YValues: ys})
		default:
			out = append(out, series(l.Class, xs, ys))
		}
		xs, ys = nil, nil
	}
	for i, x := range l.xs {
		y := c.y(l.ys[i])
		if l.Class == "mark" && math.IsNaN(y) {
			y = floor
		}
		if math.IsNaN(y) {
			flush()
			continue
		}
		xs, ys = append(xs, x), append(ys, y)
	}
	flush()
	return out
}

// bounds are those of all lines, y as on the axis.
func (c *chart) bounds() (lo, hi, xlo, xhi float64, ok bool) {
	lo, hi, xlo, xhi = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range c.Lines {
		for i, x := range l.xs {
			if y := c.y(l.ys[i]); !math.IsNaN(y) {
				lo, hi, xlo, xhi = min(lo, y), max(hi, y), min(xlo, x), max(xhi, x)
			}
		}
	}
	for _, r := range c.Rules {
		if y := c.y(r.at); r.level && !math.IsNaN(y) {
			lo, hi = min(lo, y), max(hi, y)
		}
	}
	sane := func(v float64) bool { return math.Abs(v) < 1e15 }
	if !sane(lo) || !sane(hi) || !sane(xlo) || !sane(xhi) {
		return 0, 0, 0, 0, false
	}
	if xhi == xlo {
		xhi++
	}
	return lo, hi, xlo, xhi, true
}

// linearTicks are round values that enclose lo … hi, about n of them.
func linearTicks(lo, hi float64, n int) []draw.Tick {
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
	var ticks []draw.Tick
	first, last := math.Floor(lo/every), math.Ceil(hi/every-1e-9)
	for i := first; i <= last; i++ {
		v := i * every
		ticks = append(ticks, draw.Tick{Value: v, Label: tickLabel(v, every)})
	}
	return ticks
}

// tickLabel writes a tick with as many digits as the distance between ticks needs.
func tickLabel(v, every float64) string {
	digits := max(0, int(math.Ceil(-math.Log10(every)-1e-9)))
	if math.Abs(every*math.Pow(10, float64(digits))-math.Round(every*math.Pow(10, float64(digits)))) > 1e-6 {
		digits++ // 2.5
	}
	if digits == 0 && math.Abs(v) < 1e15 {
		return grouped(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', min(digits, 12), 64)
}

// logTicks are 1, 2 and 5 of each power of ten, or only 1 where there are many, as they stand on the axis.
func logTicks(lo, hi float64) []draw.Tick {
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
	var ticks []draw.Tick
	for _, v := range all[first : last+1] {
		ticks = append(ticks, draw.Tick{Value: v, Label: powerLabel(v)})
	}
	return ticks
}

func powerLabel(v float64) string {
	n := math.Pow(10, v)
	if n >= 0.9999 && n < 1e15 {
		return grouped(int64(math.Round(n)))
	}
	return strconv.FormatFloat(n, 'g', 1, 64)
}
