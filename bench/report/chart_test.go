package report

import (
	"encoding/xml"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDrawPlacesValues compares the shapes of small charts with coordinates computed by
// hand. The area reaches from x = 26 (54 beside wider labels) to 580, and from y = 190 up to
// 12.
func TestDrawPlacesValues(t *testing.T) {
	gap := math.NaN()
	for _, c := range []struct {
		name  string
		chart chart
		lines []stroke
		dots  []dot
	}{
		{"a diagonal on linear axes", chart{
			Lines: []line{{Class: "c1", xs: []float64{0, 9}, ys: []float64{0, 9}}},
		}, []stroke{{"c1", "M26 190L580 29.8"}}, nil},
		{"decades on a logarithmic axis have equal heights", chart{
			log:   true,
			Lines: []line{{Class: "c2", xs: []float64{0, 5, 10}, ys: []float64{1, 100, 10000}}},
		}, []stroke{{"c2", "M54 190L317 101L580 12"}}, nil},
		{"a gap splits a line, and a single point is a dot", chart{
			Lines: []line{{Class: "c1", xs: []float64{0, 3, 6, 9}, ys: []float64{0, 9, gap, 9}}},
		}, []stroke{{"c1", "M26 190L210.7 29.8"}}, []dot{{"c1", "580", "29.8", "3"}}},
		{"a mark without a value stands on the x axis", chart{
			log: true,
			Lines: []line{{Class: "c1", xs: []float64{0, 10}, ys: []float64{1, 10000}},
				{Class: "mark", dots: true, xs: []float64{5}, ys: []float64{0}}},
		}, []stroke{{"c1", "M54 190L580 12"}}, []dot{{"mark", "317", "190", "4.5"}}},
		{"rules cross the area", chart{
			Lines: []line{{Class: "c1", xs: []float64{0, 9}, ys: []float64{0, 9}}},
			Rules: []rule{{Class: "bound", at: 5, level: true}, {Class: "knee", at: 3},
				{Class: "outside", at: 12}},
		}, []stroke{{"bound", "M26 101L580 101"}, {"knee", "M210.7 190L210.7 12"},
			{"c1", "M26 190L580 29.8"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := c.chart.draw()
			if !slices.Equal(d.Lines, c.lines) {
				t.Errorf("lines:\n got %v\nwant %v", d.Lines, c.lines)
			}
			if !slices.Equal(d.Dots, c.dots) {
				t.Errorf("dots:\n got %v\nwant %v", d.Dots, c.dots)
			}
		})
	}
}

// TestDrawingIsSafe draws difficult values. The SVG must be well-formed XML, must take its
// colours from the page, and no shape or label may leave the drawing.
func TestDrawingIsSafe(t *testing.T) {
	values := map[string][]float64{
		"some": {1, 2, 3}, "same": {5, 5, 5}, "zero": {0, 0, 0}, "gap": {1, math.NaN(), 3},
		"one": {math.NaN(), 2, math.NaN()}, "wide": {1e-6, 1, 1e9}, "negative": {-3, 0, 2},
		"infinite": {1, math.Inf(1), 2}, "tiny": {1e-12, 2e-12, 1e-12}, "huge": {1e300, 1, 2},
		"none": {math.NaN(), math.NaN(), math.NaN()}, "large": {1e14, 1, 2},
	}
	for name, ys := range values {
		for _, log := range []bool{false, true} {
			c := chart{Title: "<&\"", XName: "<&\"", log: log,
				Lines: []line{{Name: "<&\"", Class: "c1", xs: []float64{0, 1, 2}, ys: ys}}}
			svg, err := c.SVG()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := wellFormed(string(svg)); err != nil {
				t.Errorf("%s: %v in %s", name, err, svg)
			}
			if strings.Contains(string(svg), "style=") || strings.Contains(string(svg), "NaN") {
				t.Errorf("%s: %s", name, svg)
			}
			if d := c.draw(); d != nil {
				checkWithin(t, name, d)
			}
		}
	}
}

// wellFormed returns the first error of an XML document.
func wellFormed(text string) error {
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// checkWithin checks that each shape and each label lies within the drawing.
func checkWithin(t *testing.T, name string, d *drawing) {
	t.Helper()
	check := func(x, y, half string) {
		px, err1 := strconv.ParseFloat(x, 64)
		py, err2 := strconv.ParseFloat(y, 64)
		h, _ := strconv.ParseFloat(half, 64)
		if err1 != nil || err2 != nil || px-h < 0 || px+h > chartWidth || py < 0 ||
			py > chartHeight {
			t.Errorf("%s: (%s, %s) is outside the drawing", name, x, y)
		}
	}
	paths := append([]string{d.Axes}, d.Grid...)
	for _, l := range d.Lines {
		paths = append(paths, l.Path)
	}
	coordinates := regexp.MustCompile(`[ML](\S+) ([^ML]+)`)
	for _, p := range paths {
		found := coordinates.FindAllStringSubmatch(p, -1)
		if len(found) < 2 {
			t.Errorf("%s: the path %q has %d points", name, p, len(found))
		}
		for _, m := range found {
			check(m[1], m[2], "0")
		}
	}
	for _, p := range d.Dots {
		check(p.X, p.Y, "0")
	}
	for _, l := range d.Labels {
		half := float64(len(l.Text)) * charWidth / 2
		if l.Anchor == "end" {
			x, _ := strconv.ParseFloat(l.X, 64)
			check(units(x-half), l.Y, units(half))
			continue
		}
		check(l.X, l.Y, units(half))
	}
}

// TestLabelsDoNotOverlap draws more ticks than have room. Some labels must be left out, and
// the last one must stay within the drawing.
func TestLabelsDoNotOverlap(t *testing.T) {
	c := chart{xticks: nineTicks(11), Lines: []line{{Class: "c1", xs: []float64{0, 11},
		ys: []float64{1, 2}}}}
	d := c.draw()
	checkWithin(t, "nines", d)
	end := 0.0
	shown := 0
	for _, l := range d.Labels {
		if l.Anchor != "middle" || l.Text == c.XName {
			continue
		}
		shown++
		x, err := strconv.ParseFloat(l.X, 64)
		if err != nil {
			t.Fatal(err)
		}
		half := float64(len(l.Text)) * charWidth / 2
		if x-half < end {
			t.Errorf("the label %q begins at %v, and the one before it ends at %v", l.Text, x-half,
				end)
		}
		end = x + half
	}
	if shown < 4 || shown >= len(c.xticks) {
		t.Errorf("%d labels of %d ticks", shown, len(c.xticks))
	}
}
