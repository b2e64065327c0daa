package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"teamtalk/bench/report/axis"
)

// chart holds the values of a chart with two axes: lines, rules and a legend. Its colours
// are classes of the page's style sheet, so that it is light or dark as the page is.
type chart struct {
	Title  string
	XName  string
	YName  string
	Lines  []line
	Rules  []rule      // vertical and horizontal lines
	Note   string      // text below the chart
	log    bool        // the y axis is logarithmic
	xticks []axis.Tick // nil: round values that enclose the lines
}

// line is a line of a chart. A NaN is a gap.
type line struct {
	Name   string
	Class  string // c1 … c8, or mark
	xs, ys []float64
	dots   bool // points without a line between them
}

// rule is a line from edge to edge: vertical at x, or horizontal at y when level is set.
type rule struct {
	Name  string
	Class string
	at    float64
	level bool
}

// seriesClass returns the class of line i: one of eight colours, dashed when those are used.
func seriesClass(i int) string {
	class := "c" + strconv.Itoa(i%8+1)
	if i%16 >= 8 {
		class += " dash"
	}
	return class
}

// Sizes of a drawing, in the units of its view box. The style sheet sets the text to 12.5.
const (
	chartWidth   = 600
	chartHeight  = 230
	marginTop    = 12
	marginRight  = 20
	marginBottom = 40   // tick labels and the name of the axis
	marginLabel  = 6    // between a tick label and its axis
	charWidth    = 7    // of a digit, rounded up
	dotRadius    = 3    // a point
	markRadius   = 4.5  // a mark, which must be seen on a line
	headroom     = 1.02 // keeps a level line apart from the upper edge
)

//go:embed chart.svg
var drawingText string

var drawingTemplate = template.Must(template.New("chart").Parse(strings.TrimSpace(drawingText)))

// drawing holds the shapes of a chart for the template chart.svg, in units of the view box.
type drawing struct {
	Width, Height int
	Title         string
	Grid          []string // paths
	Axes          string   // path
	Labels        []label
	Lines         []stroke
	Dots          []dot
}

type (
	stroke struct{ Class, Path string }
	dot    struct{ Class, X, Y, R string }
	label  struct{ X, Y, Anchor, Text string }
	point  struct{ x, y float64 }
)

// frame maps values to the area between the axes.
type frame struct {
	left, right, top, bottom float64 // of the area
	x0, x1, y0, y1           float64 // values at its edges
}

// at returns the point of the drawing for a value of each axis.
func (f *frame) at(x, y float64) point {
	return point{
		f.left + (x-f.x0)/(f.x1-f.x0)*(f.right-f.left),
		f.bottom - (y-f.y0)/(f.y1-f.y0)*(f.bottom-f.top),
	}
}

// draw returns the shapes of the chart; nil when it has no values.
func (c *chart) draw() *drawing {
	lo, hi, xlo, xhi, ok := c.bounds()
	if !ok {
		return nil
	}
	yticks := axis.Linear(min(0, lo), hi*headroom, 5)
	if c.log {
		yticks = axis.Log(lo, hi)
	}
	xticks := c.xticks
	if xticks == nil {
		xticks = axis.Linear(xlo, xhi, 9)
	}
	widest := 0
	for _, t := range yticks {
		widest = max(widest, utf8.RuneCountInString(t.Label))
	}
	f := &frame{
		left: float64(widest*charWidth + 2*marginLabel), right: chartWidth - marginRight,
		top: marginTop, bottom: chartHeight - marginBottom,
		x0: xticks[0].Value, x1: xticks[len(xticks)-1].Value,
		y0: yticks[0].Value, y1: yticks[len(yticks)-1].Value,
	}
	d := &drawing{Width: chartWidth, Height: chartHeight, Title: c.Title}
	d.addAxes(f, xticks, yticks, c.XName)
	for _, r := range c.Rules {
		if at := c.y(r.at); r.level && at >= f.y0 && at <= f.y1 {
			d.Lines = append(d.Lines, stroke{r.Class, path(f.at(f.x0, at), f.at(f.x1, at))})
		} else if !r.level && r.at >= f.x0 && r.at <= f.x1 {
			d.Lines = append(d.Lines, stroke{r.Class, path(f.at(r.at, f.y0), f.at(r.at, f.y1))})
		}
	}
	for i := range c.Lines {
		c.addLine(d, f, &c.Lines[i])
	}
	return d
}

// addAxes adds the axes, the grid, and the labels that have room beside each other.
func (d *drawing) addAxes(f *frame, xticks, yticks []axis.Tick, xname string) {
	d.Axes = path(f.at(f.x0, f.y1), f.at(f.x0, f.y0), f.at(f.x1, f.y0))
	for _, t := range yticks {
		p := f.at(f.x0, t.Value)
		d.Grid = append(d.Grid, path(p, f.at(f.x1, t.Value)))
		d.Labels = append(d.Labels, label{units(p.x - marginLabel), units(p.y + 4), "end", t.Label})
	}
	free := math.Inf(-1) // the right end of the last label
	for _, t := range xticks {
		p := f.at(t.Value, f.y0)
		d.Grid = append(d.Grid, path(p, f.at(t.Value, f.y1)))
		half := float64(utf8.RuneCountInString(t.Label)) * charWidth / 2
		middle := min(p.x, chartWidth-half) // a long last label stays within the drawing
		if middle-half < free {
			continue
		}
		free = middle + half + marginLabel
		d.Labels = append(d.Labels, label{units(middle), units(p.y + 16), "middle", t.Label})
	}
	if xname != "" {
		middle := (f.left + f.right) / 2
		d.Labels = append(d.Labels, label{units(middle), units(chartHeight - 6), "middle", xname})
	}
}

// addLine adds the pieces of a line between its gaps. A piece of one point becomes a dot. A
// mark without a value stands on the x axis.
func (c *chart) addLine(d *drawing, f *frame, l *line) {
	var piece []point
	flush := func() {
		if l.dots || len(piece) == 1 {
			radius := float64(dotRadius)
			if l.Class == "mark" {
				radius = markRadius
			}
			for _, p := range piece {
				d.Dots = append(d.Dots, dot{l.Class, units(p.x), units(p.y), units(radius)})
			}
		} else if len(piece) > 1 {
			d.Lines = append(d.Lines, stroke{l.Class, path(piece...)})
		}
		piece = nil
	}
	for i, x := range l.xs {
		y := c.y(l.ys[i])
		if l.Class == "mark" && math.IsNaN(y) {
			y = f.y0
		}
		if math.IsNaN(y) {
			flush()
			continue
		}
		piece = append(piece, f.at(x, y))
	}
	flush()
}

// path returns an SVG path through points.
func path(points ...point) string {
	var b strings.Builder
	for i, p := range points {
		b.WriteString([]string{"M", "L"}[min(i, 1)] + units(p.x) + " " + units(p.y))
	}
	return b.String()
}

// units writes a coordinate to a tenth of a unit, which is finer than a pixel.
func units(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// SVG returns the chart as an SVG element; "" when it has no values.
func (c *chart) SVG() (template.HTML, error) {
	d := c.draw()
	if d == nil {
		return "", nil
	}
	var b strings.Builder
	if err := drawingTemplate.Execute(&b, d); err != nil {
		return "", fmt.Errorf("draw %q: %w", c.Title, err)
	}
	return template.HTML(b.String()), nil
}

// y returns the place of a value on the y axis; NaN, a gap, when the axis has none for it.
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

// bounds returns the smallest and largest values of all lines, with y as on the axis. It
// returns false when there are none, or when they are too large to draw.
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
