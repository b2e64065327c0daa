package thumb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"image"
	"io"
)

// turn is an Exif orientation: the rotation and mirroring that makes a picture upright.
// Cameras store the picture as the sensor saw it, and the way they were held.
type turn uint16

const upright turn = 1

// sideways reports whether the turn swaps width and height.
func (t turn) sideways() bool { return t >= 5 }

// apply returns the picture m turned upright.
func (t turn) apply(m *image.RGBA) *image.RGBA {
	if t == upright {
		return m
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	size := image.Pt(w, h)
	if t.sideways() {
		size = image.Pt(h, w)
	}
	out := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			from := t.origin(x, y, w, h)
			copy(out.Pix[out.PixOffset(x, y):][:4], m.Pix[m.PixOffset(from.X, from.Y):][:4])
		}
	}
	return out
}

// origin returns the pixel of a picture of w×h that moves to x, y.
func (t turn) origin(x, y, w, h int) image.Point {
	switch t {
	case 2: // mirrored left to right
		return image.Pt(w-1-x, y)
	case 3: // upside down
		return image.Pt(w-1-x, h-1-y)
	case 4: // mirrored top to bottom
		return image.Pt(x, h-1-y)
	case 5: // mirrored along the main diagonal
		return image.Pt(y, x)
	case 6: // rotated left: rotate it right
		return image.Pt(y, h-1-x)
	case 7: // mirrored along the other diagonal
		return image.Pt(w-1-y, h-1-x)
	case 8: // rotated right: rotate it left
		return image.Pt(w-1-y, x)
	}
	return image.Pt(x, y)
}

// maxSegments is the most segments of a JPEG that are searched for Exif data. Cameras
// write it into the first or second segment.
const maxSegments = 16

// Markers of JPEG segments.
const (
	markerStart = 0xd8 // start of the picture; has no length
	markerExif  = 0xe1
	markerScan  = 0xda // end of the header
)

// orientation returns the turn of the JPEG, upright when the file does not contain one.
func (s *source) orientation() (turn, error) {
	if err := s.rewind(); err != nil {
		return upright, err
	}
	t := readTurn(bufio.NewReader(s))
	return t, s.err
}

// readTurn returns the turn in the segments of a JPEG's header.
func readTurn(r *bufio.Reader) turn {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil || head[0] != 0xff || head[1] != markerStart {
		return upright
	}
	for range maxSegments {
		_, err := io.ReadFull(r, head[:])
		if err != nil || head[0] != 0xff || head[1] == markerScan {
			return upright
		}
		n := int(binary.BigEndian.Uint16(head[2:])) - 2
		if n < 0 {
			return upright
		}
		if head[1] != markerExif {
			if _, err := r.Discard(n); err != nil {
				return upright
			}
			continue
		}
		segment := make([]byte, n)
		if _, err := io.ReadFull(r, segment); err != nil {
			return upright
		}
		if t, ok := exifTurn(segment); ok {
			return t
		}
	}
	return upright
}

// Fields of Exif data, which is a TIFF file without a picture.
const (
	tagOrientation = 0x0112
	typeShort      = 3
	entryLen       = 12
)

// exifTurn returns the turn in the first directory of Exif data.
func exifTurn(segment []byte) (turn, bool) {
	tiff, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00"))
	if !ok || len(tiff) < 8 {
		return 0, false
	}
	var order binary.ByteOrder = binary.BigEndian
	switch {
	case bytes.HasPrefix(tiff, []byte("II*\x00")):
		order = binary.LittleEndian
	case !bytes.HasPrefix(tiff, []byte("MM\x00*")):
		return 0, false
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 0, false
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < entryLen {
			return 0, false
		}
		e := entries[:entryLen]
		entries = entries[entryLen:]
		if order.Uint16(e) != tagOrientation || order.Uint16(e[2:]) != typeShort {
			continue
		}
		t := turn(order.Uint16(e[8:]))
		return t, t >= 1 && t <= 8
	}
	return 0, false
}
