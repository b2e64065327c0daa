// Package thumb scales pictures down: JPEG, PNG, GIF (its first frame) and WebP, as anybody may
// have uploaded them. What a picture may cost is bounded before it is decoded: its pixels are
// counted from its header, and a context limits the time that decoding takes.
package thumb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // formats that image.Decode knows
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"
)

// Picture is a scaled picture.
type Picture struct {
	Data []byte // the encoded picture
	Type string // its content type
}

// AsIs is the error for a picture that is not scaled and may be shown as it is. Trying again
// gives the same.
type AsIs struct {
	// Reason is one of the constants below.
	Reason string
}

// The reasons of AsIs.
const (
	Fits    = "fits"    // the picture is no larger than the box
	Unknown = "unknown" // not a format of this package, or broken
	Large   = "large"   // more pixels than allowed
	Slow    = "slow"    // the context ended before the picture was decoded
)

// Error names the reason.
func (e *AsIs) Error() string { return "picture not scaled: " + e.Reason }

// quality is that of the JPEGs made, of 100.
const quality = 85

// Scale scales the picture in r down so that it fits into a box, in pixels, and keeps its
// proportions. A picture of more than maxPixels is not decoded. One that is takes memory: a
// photo about 2 bytes for each of its pixels, the worst format, a progressive JPEG in four
// colours, 24; and 32 bytes for each of its lines times the width of the box. A JPEG that says
// how it is to be turned is turned.
//
// It fails with an AsIs, or with the error of r. When ctx ends while the picture is decoded, the
// picture is Slow.
func Scale(ctx context.Context, r io.ReadSeeker, box image.Point, maxPixels int) (*Picture, error) {
	if box.X <= 0 || box.Y <= 0 {
		return nil, fmt.Errorf("scale picture: box of %d×%d pixels", box.X, box.Y)
	}
	in := &source{ctx: ctx, r: r}
	config, format, err := image.DecodeConfig(bufio.NewReader(in))
	if err != nil {
		return nil, in.failure()
	}
	turn := upright
	if format == "jpeg" {
		if turn, err = in.orientation(); err != nil {
			return nil, err
		}
		if turn.sideways() {
			box.X, box.Y = box.Y, box.X
		}
	}
	switch {
	case config.Width <= 0 || config.Height <= 0:
		return nil, &AsIs{Unknown}
	case config.Width <= box.X && config.Height <= box.Y:
		return nil, &AsIs{Fits}
	case int64(config.Width)*int64(config.Height) > int64(maxPixels):
		return nil, &AsIs{Large}
	}
	if err := in.rewind(); err != nil {
		return nil, err
	}
	m, _, err := image.Decode(bufio.NewReader(in))
	if err != nil {
		return nil, in.failure()
	}
	size := fit(m.Bounds().Size(), box)
	out := image.NewRGBA(image.Rectangle{Max: size})
	draw.BiLinear.Scale(out, out.Bounds(), m, m.Bounds(), draw.Src, nil)
	return encode(turn.apply(out), format)
}

// fit returns the largest size with the proportions of size that is not larger than box or size.
func fit(size, box image.Point) image.Point {
	w, h := int64(size.X), int64(size.Y)
	bw, bh := min(int64(box.X), w), min(int64(box.Y), h)
	if bw*h <= bh*w { // the width decides
		bh = (h*bw + w/2) / w
	} else {
		bw = (w*bh + h/2) / h
	}
	return image.Pt(int(max(bw, 1)), int(max(bh, 1)))
}

// encode encodes a picture that was of a format: photos as JPEG, drawings, and what shows the
// background, as PNG.
func encode(m *image.RGBA, format string) (*Picture, error) {
	var b bytes.Buffer
	if format == "jpeg" || format == "webp" && m.Opaque() {
		if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: quality}); err != nil {
			return nil, fmt.Errorf("encode picture: %w", err)
		}
		return &Picture{Data: b.Bytes(), Type: "image/jpeg"}, nil
	}
	if err := png.Encode(&b, m); err != nil {
		return nil, fmt.Errorf("encode picture: %w", err)
	}
	return &Picture{Data: b.Bytes(), Type: "image/png"}, nil
}

// source reads until its context ends, and tells errors of reading from those of decoding.
type source struct {
	ctx context.Context
	r   io.ReadSeeker
	err error // of r
}

// readPiece is the most bytes that one read gives a decoder, so that it meets the end of the
// context soon. A progressive JPEG may repeat a scan of all its pixels, which takes 11 ms for
// 12 million of them, in every 33 bytes: ten megabytes of these would take an hour.
const readPiece = 512

// Read reads from r.
func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p[:min(len(p), readPiece)])
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// rewind continues at the beginning.
func (s *source) rewind() error {
	_, err := s.r.Seek(0, io.SeekStart)
	return err
}

// failure is the error of a picture that could not be decoded.
func (s *source) failure() error {
	switch {
	case s.err != nil && s.ctx.Err() == nil:
		return s.err
	case s.ctx.Err() != nil:
		return &AsIs{Slow}
	}
	return &AsIs{Unknown}
}
