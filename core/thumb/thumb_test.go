package thumb

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
)

// quarters returns a picture whose quarters are red, green, blue and white, in reading
// order.
func quarters(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, colors[y*2/h*2+x*2/w])
		}
	}
	return m
}

var colors = [4]color.NRGBA{
	{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {255, 255, 255, 255},
}

// corners returns the colours of a picture's quarters: "rgbw" for an upright one.
func corners(m image.Image) string {
	b := m.Bounds()
	out := ""
	for _, p := range []image.Point{{1, 1}, {3, 1}, {1, 3}, {3, 3}} {
		r, g, bl, _ := m.At(b.Min.X+b.Dx()*p.X/4, b.Min.Y+b.Dy()*p.Y/4).RGBA()
		switch hi := func(v uint32) bool { return v > 0x8000 }; {
		case hi(r) && hi(g) && hi(bl):
			out += "w"
		case hi(r):
			out += "r"
		case hi(g):
			out += "g"
		case hi(bl):
			out += "b"
		default:
			out += "?"
		}
	}
	return out
}

func asPNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asGIF(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gif.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// exif returns Exif data with a turn.
func exif(order binary.AppendByteOrder, t uint16) []byte {
	b := []byte("Exif\x00\x00MM\x00*")
	if order == binary.AppendByteOrder(binary.LittleEndian) {
		b = []byte("Exif\x00\x00II*\x00")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2)
	for _, e := range [][3]uint16{{0x0100, 3, 7}, {tagOrientation, typeShort, t}} {
		b = order.AppendUint16(order.AppendUint16(b, e[0]), e[1])
		b = order.AppendUint32(b, 1)
		b = order.AppendUint16(order.AppendUint16(b, e[2]), 0)
	}
	return order.AppendUint32(b, 0)
}

// withExif inserts Exif data after the first other segment of a JPEG.
func withExif(picture, exif []byte) []byte {
	b := []byte{0xff, 0xd8, 0xff, 0xe0, 0, 4, 'x', 'x', 0xff, markerExif}
	b = binary.BigEndian.AppendUint16(b, uint16(len(exif)+2))
	return append(append(b, exif...), picture[2:]...)
}

func scale(data []byte, w, h, maxPixels int) (*Picture, error) {
	return Scale(context.Background(), bytes.NewReader(data), image.Pt(w, h), maxPixels)
}

// webp is a picture of 2×1 pixels.
const webp = "UklGRhwAAABXRUJQVlA4TA8AAAAvAQAAAAcQ/Y/+ByKi/wEA"

func TestScaleKeepsProportions(t *testing.T) {
	pt, clear := image.Pt, quarters(300, 200)
	clear.SetNRGBA(0, 0, color.NRGBA{})
	for name, c := range map[string]struct {
		data         []byte
		box          image.Point
		want         image.Point
		format, kind string
	}{
		"JPEG": {asJPEG(t, quarters(300, 200)), pt(100, 100), pt(100, 67),
			"jpeg", "image/jpeg"},
		"PNG": {asPNG(t, quarters(300, 200)), pt(100, 100), pt(100, 67),
			"png", "image/png"},
		"PNG, clear": {asPNG(t, clear), pt(30, 200), pt(30, 20), "png", "image/png"},
		"GIF": {asGIF(t, quarters(300, 200)), pt(100, 20), pt(30, 20),
			"png", "image/png"},
		"one side fits": {asPNG(t, quarters(300, 50)), pt(100, 100), pt(100, 17),
			"png", "image/png"},
		"very flat": {asPNG(t, quarters(5000, 2)), pt(100, 100), pt(100, 1),
			"png", "image/png"},
	} {
		p, err := scale(c.data, c.box.X, c.box.Y, 1<<20)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, format, err := image.Decode(bytes.NewReader(p.Data))
		if err != nil || format != c.format || p.Type != c.kind || m.Bounds().Size() != c.want {
			t.Errorf("%s: %s, %s, %v, %v", name, format, p.Type, m.Bounds(), err)
			continue
		}
		if got := corners(m); c.want.Y > 1 && got != "rgbw" {
			t.Errorf("%s: quarters %s", name, got)
		}
	}
}

// TestWebPBecomesJPEGOrPNG covers a format that is read and never written. A picture with
// transparent pixels becomes a PNG, every other a JPEG.
func TestWebPBecomesJPEGOrPNG(t *testing.T) {
	data, err := base64.StdEncoding.DecodeString(webp)
	if err != nil {
		t.Fatal(err)
	}
	p, err := scale(data, 1, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	m, err := jpeg.Decode(bytes.NewReader(p.Data))
	if err != nil || p.Type != "image/jpeg" || m.Bounds().Size() != image.Pt(1, 1) {
		t.Errorf("%s: %v, %v", p.Type, m, err)
	}
	clear := image.NewRGBA(image.Rect(0, 0, 1, 1))
	if p, err := encode(clear, "webp"); err != nil || p.Type != "image/png" {
		t.Errorf("with clear pixels: %v, %v", p, err)
	}
}

// reason returns the reason of an AsIs, or the text of another error; "" without an
// error.
func reason(err error) string {
	var asIs *AsIs
	switch {
	case errors.As(err, &asIs):
		return asIs.Reason
	case err != nil:
		return err.Error()
	}
	return ""
}

func TestAsIsNamesTheReason(t *testing.T) {
	picture := asJPEG(t, quarters(300, 200))
	for name, c := range map[string]struct {
		data      []byte
		w, h, max int
		want      string
	}{
		"fits":              {picture, 300, 200, 1 << 20, Fits},
		"smaller":           {picture, 1000, 1000, 1, Fits},
		"as many as may be": {picture, 100, 100, 300 * 200, ""},
		"one pixel more":    {picture, 100, 100, 300*200 - 1, Large},
		"nothing":           {nil, 100, 100, 1 << 20, Unknown},
		"no picture":        {[]byte("<svg/>"), 100, 100, 1 << 20, Unknown},
		"cut off":           {picture[:len(picture)/2], 100, 100, 1 << 20, Unknown},
		"header alone":      {asPNG(t, quarters(300, 200))[:40], 100, 100, 1 << 20, Unknown},
	} {
		_, err := scale(c.data, c.w, c.h, c.max)
		if got := reason(err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if _, err := scale(picture, 0, 100, 1<<20); err == nil {
		t.Error("a box without width")
	}
}

// TestLargeHeaderCostsNothing checks that a header with more pixels than allowed
// allocates nothing.
func TestLargeHeaderCostsNothing(t *testing.T) {
	bomb := asPNG(t, quarters(2, 2))
	binary.BigEndian.PutUint32(bomb[16:], 1<<30) // the width; the checksum is wrong after that
	if n := testing.AllocsPerRun(1, func() { _, _ = scale(bomb, 1, 1, 1<<20) }); n > 100 {
		t.Errorf("%v allocations", n)
	}
	wide := asPNG(t, image.NewGray(image.Rect(0, 0, 1<<20, 2)))
	if _, err := scale(wide, 100, 100, 1<<20); reason(err) != Large {
		t.Errorf("%d bytes for 2 million pixels: %v", len(wide), err)
	}
}

// failing returns some bytes and then an error.
type failing struct {
	*bytes.Reader
	left int
	err  error
	then func()
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left <= 0 {
		f.then()
		return 0, f.err
	}
	n, err := f.Reader.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func TestReadErrorsAndSlowDecodingDiffer(t *testing.T) {
	picture := asJPEG(t, quarters(1500, 1000))
	broken := errors.New("disk broken")
	in := &failing{Reader: bytes.NewReader(picture), left: 5_000, err: broken, then: func() {}}
	if _, err := Scale(t.Context(), in, image.Pt(9, 9), 1<<30); !errors.Is(err, broken) {
		t.Errorf("a store that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in = &failing{Reader: bytes.NewReader(picture), left: 5_000, then: cancel}
	if _, err := Scale(ctx, in, image.Pt(9, 9), 1<<30); reason(err) != Slow {
		t.Errorf("out of time: %v", err)
	}
}

// TestTurnedPhotosBecomeUpright scales JPEGs of a camera that was held in all eight ways.
func TestTurnedPhotosBecomeUpright(t *testing.T) {
	upright := image.Pt(240, 160)
	for o := turn(1); o <= 8; o++ {
		stored := image.NewRGBA(image.Rectangle{Max: upright})
		if o.sideways() {
			stored = image.NewRGBA(image.Rect(0, 0, upright.Y, upright.X))
		}
		w, h := stored.Rect.Dx(), stored.Rect.Dy()
		for y := range upright.Y {
			for x := range upright.X {
				p := o.origin(x, y, w, h)
				stored.Set(p.X, p.Y, colors[y*2/upright.Y*2+x*2/upright.X])
			}
		}
		for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
			p, err := scale(withExif(asJPEG(t, stored), exif(order, uint16(o))), 60, 60, 1<<20)
			if err != nil {
				t.Errorf("%d: %v", o, err)
				continue
			}
			m, err := jpeg.Decode(bytes.NewReader(p.Data))
			if err != nil || m.Bounds().Size() != image.Pt(60, 40) || corners(m) != "rgbw" {
				t.Errorf("%d: %v, %s, %v", o, m.Bounds(), corners(m), err)
			}
		}
	}
}

// TestTurnsFollowExif compares with the standard, which says where row 0 and column 0 of
// the stored picture are.
func TestTurnsFollowExif(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 40, 20))
	for y := range 20 {
		for x := range 40 {
			m.Set(x, y, colors[y*2/20*2+x*2/40])
		}
	}
	for o, want := range map[turn]string{1: "rgbw", 2: "grwb", 3: "wbgr", 4: "bwrg",
		5: "rbgw", 6: "brwg", 7: "wgbr", 8: "gwrb"} {
		if got := corners(o.apply(m)); got != want {
			t.Errorf("orientation %d: %s, want %s", o, got, want)
		}
	}
}

func TestExifTurnRejectsBrokenData(t *testing.T) {
	good := exif(binary.BigEndian, 6)
	for name, c := range map[string]struct {
		data []byte
		want turn
	}{
		"good":      {good, 6},
		"cut off":   {good[:len(good)-10], 0},
		"no Exif":   {good[1:], 0},
		"zero":      {exif(binary.BigEndian, 0), 0},
		"nine":      {exif(binary.LittleEndian, 9), 0},
		"far away":  {append([]byte("Exif\x00\x00MM\x00*"), 0xff, 0xff, 0xff, 0xff), 0},
		"no header": {[]byte("Exif\x00\x00MM"), 0},
	} {
		if got, ok := exifTurn(c.data); ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
}

// FuzzTurn checks that reading the turn of any header returns a valid turn.
func FuzzTurn(f *testing.F) {
	f.Add(withExif([]byte{0xff, 0xd8, 0xff, 0xda}, exif(binary.BigEndian, 6)))
	f.Add(withExif([]byte{0xff, 0xd8}, exif(binary.LittleEndian, 3)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o := readTurn(bufio.NewReader(bytes.NewReader(data))); o < 1 || o > 8 {
			t.Errorf("turn %d", o)
		}
	})
}

// FuzzScale checks that any upload is scaled without a panic and to no more than the box.
func FuzzScale(f *testing.F) {
	f.Add(asJPEG(f, quarters(20, 10)), uint16(5), uint16(5))
	f.Add(asPNG(f, quarters(20, 10)), uint16(5), uint16(50))
	f.Add(asGIF(f, quarters(20, 10)), uint16(5), uint16(1))
	data, _ := base64.StdEncoding.DecodeString(webp)
	f.Add(data, uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, w, h uint16) {
		w, h = w%200+1, h%200+1
		p, err := scale(data, int(w), int(h), 1<<16)
		if err != nil {
			return
		}
		m, _, err := image.Decode(bytes.NewReader(p.Data))
		if err != nil || m.Bounds().Dx() > int(w) || m.Bounds().Dy() > int(h) {
			t.Errorf("into %d×%d: %v, %v", w, h, m.Bounds(), err)
		}
	})
}

// BenchmarkPhoto scales a phone's photo of 12 million pixels.
func BenchmarkPhoto(b *testing.B) {
	data := asJPEG(b, quarters(4032, 3024))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := scale(data, 100, 100, 13_000_000); err != nil {
			b.Fatal(err)
		}
	}
}
