package terminal

import (
	"io"
	"strings"
)

// Bracketed paste: the terminal marks the beginning and the end of a paste, so that a
// line break in the paste does not send the first half.
const (
	pasteOn    = "\x1b[?2004h"
	pasteOff   = "\x1b[?2004l"
	pasteStart = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// pasteReader turns the line breaks of a paste into newlineMark.
type pasteReader struct {
	r       io.Reader
	inside  bool
	pending []byte // read and not passed on: perhaps the beginning of a bracket
	ready   []byte // to be passed on
	buf     []byte
	cr      bool // the last byte of the paste was a carriage return
}

// newPasteReader returns a reader of r.
func newPasteReader(r io.Reader) *pasteReader { return &pasteReader{r: r, buf: make([]byte, 1024)} }

// Read implements io.Reader.
func (p *pasteReader) Read(b []byte) (int, error) {
	for len(p.ready) == 0 {
		n, err := p.r.Read(p.buf)
		p.feed(p.buf[:n])
		if n == 0 && err != nil {
			if len(p.pending) == 0 {
				return 0, err
			}
			p.ready, p.pending = p.pending, nil
		}
	}
	n := copy(b, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

// feed passes on bytes and removes brackets.
func (p *pasteReader) feed(b []byte) {
	p.pending = append(p.pending, b...)
	for len(p.pending) > 0 {
		bracket := pasteStart
		if p.inside {
			bracket = pasteEnd
		}
		s := string(p.pending)
		if strings.HasPrefix(s, bracket) {
			p.inside, p.cr = !p.inside, false
			p.pending = p.pending[len(bracket):]
			continue
		}
		if strings.HasPrefix(bracket, s) {
			return // wait for the rest: a single escape means nothing to the line editor
		}
		p.pass(p.pending[0])
		p.pending = p.pending[1:]
	}
}

// pass passes on a byte.
func (p *pasteReader) pass(c byte) {
	switch {
	case !p.inside:
		p.ready = append(p.ready, c)
	case c == '\n' && p.cr:
	case c == '\n' || c == '\r':
		p.ready = append(p.ready, string(newlineMark)...)
	case c == '\t':
		p.ready = append(p.ready, ' ')
	case c < ' ' || c == 0x7f: // a clipboard must not send commands to the line editor
	default:
		p.ready = append(p.ready, c)
	}
	p.cr = c == '\r'
}
