// Package thumb scales uploaded pictures down: JPEG, PNG, GIF (the first frame) and WebP.
// The uploads are not trusted, so the cost of a picture is bounded before it is decoded:
// the number of pixels is read from its header, and a context limits the decoding time.
package thumb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // registers a format for image.Decode
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"
)

// Picture is a scaled picture.
type Picture struct {
	Data []byte // encoded
	Type string // content type
}

// AsIs is the error for a picture that is not scaled and may be shown unchanged. Another
// attempt has the same result.
type AsIs struct {
	// Reason is one of the constants below.
	Reason string
}

// The reasons of AsIs.
const (
	Fits    = "fits"    // the picture is not larger than the box
	Unknown = "unknown" // the format is unknown, or the file is broken
	Large   = "large"   // the picture has more pixels than allowed
	Slow    = "slow"    // the context ended before the picture was decoded
)

// Error returns a text with the reason.
func (e *AsIs) Error() string { return "picture not scaled: " + e.Reason }

// quality is the quality of the JPEGs made, from 1 to 100.
const quality = 85

// Scale returns the picture in r, scaled down to fit into a box, in pixels, with its
// proportions. A picture of more than maxPixels is not decoded. Decoding takes memory:
// about 2 bytes per pixel for a photo, 24 for the worst format, a progressive JPEG in
// four colours, and 32 bytes per line times the width of the box. A JPEG is rotated or
// mirrored as its Exif data says.
//
// The error is an AsIs, or an error of r. When ctx ends while the picture is decoded, the
// reason is Slow.
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

// fit returns the largest size with the proportions of size that is not larger than box
// or size.
func fit(size, box image.Point) image.Point {
	w, h := int64(size.X), int64(size.Y)
	bw, bh := min(int64(box.X), w), min(int64(box.Y), h)
	if bw*h <= bh*w { // the width limits the size
		bh = (h*bw + w/2) / w
	} else {
		bw = (w*bh + h/2) / h
	}
	return image.Pt(int(max(bw, 1)), int(max(bh, 1)))
}

// encode encodes a picture. Photos, which are JPEGs and opaque WebPs, become JPEGs.
// Drawings and pictures with transparent pixels become PNGs.
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

// source reads until its context ends. It keeps read errors apart from decoding errors.
type source struct {
	ctx context.Context
	r   io.ReadSeeker
	err error // the last error of r
}

// readPiece is the most bytes that one read returns, so that a decoder notices soon that
// the context has ended. A progressive JPEG may repeat a scan of all its pixels in every
// 33 bytes. One scan takes 11 ms for 12 million pixels, so ten megabytes would take an
// hour.
const readPiece = 512

// Read reads up to readPiece bytes from r.
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

// rewind sets the next read to the beginning.
func (s *source) rewind() error {
	_, err := s.r.Seek(0, io.SeekStart)
	return err
}

// failure returns the error for a picture that could not be decoded.
func (s *source) failure() error {
	switch {
	case s.err != nil && s.ctx.Err() == nil:
		return s.err
	case s.ctx.Err() != nil:
		return &AsIs{Slow}
	}
	return &AsIs{Unknown}
}
