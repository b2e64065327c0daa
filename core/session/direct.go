package session

// The bytes of a frame that was posted to a session no longer change. A long frame, such
// as a segment of a file or a message with a picture, is therefore written from its own
// slice. A short frame is copied into the session's buffer, because one write of many
// frames is worth more than the copy. All frames leave in the order in which they were
// sent.

// directFrame is the length, in bytes, from which a frame is sent without a copy. Frames
// of largeFrame bytes and more are sent in pieces.
const directFrame = 8 << 10

// maxDirect limits the frames of one session that one write sends without a copy. The
// kernel accepts 1,024 slices in one call.
const maxDirect = 256

// keepDirect limits the free lists that a loop keeps.
const keepDirect = 512

// direct holds the frames that a session sends in a turn without a copy.
type direct struct {
	frames [][]byte
	at     []int // for each frame: the offset in out before which it is sent
	size   int   // bytes of all frames
}

// VectorWriter is a Carrier that writes several slices in one call.
type VectorWriter interface {
	Carrier
	// Writev sends ps, which together hold one or more whole frames, as Write does. It
	// may change ps, but not the bytes of its slices.
	Writev(ps [][]byte) error
}

// sendDirect sends a frame whose bytes no longer change. Loop only.
func (c *Conn) sendDirect(frame []byte) {
	l := c.loop
	l.markDirty(c)
	l.turnBytes += len(frame)
	if c.direct == nil {
		c.direct = l.takeDirect()
	}
	d := c.direct
	if len(d.frames) == maxDirect {
		c.out = append(c.out, frame...)
		return
	}
	d.frames, d.at = append(d.frames, frame), append(d.at, len(c.out))
	d.size += len(frame)
}

// takeDirect returns an empty list, a free one when the loop has one. Loop only.
func (l *Loop) takeDirect() *direct {
	n := len(l.directs)
	if n == 0 {
		return &direct{}
	}
	d := l.directs[n-1]
	l.directs = l.directs[:n-1]
	return d
}

// dropDirect returns the session's list to the loop. Loop only.
func (c *Conn) dropDirect() {
	d := c.direct
	if d == nil {
		return
	}
	c.direct = nil
	if len(c.loop.directs) >= keepDirect {
		return
	}
	clear(d.frames) // so that the loop holds no reference to the frames
	d.frames, d.at, d.size = d.frames[:0], d.at[:0], 0
	c.loop.directs = append(c.loop.directs, d)
}

// unsent returns the number of bytes that wait for the end of the turn.
func (c *Conn) unsent() int {
	if c.direct == nil {
		return len(c.out)
	}
	return len(c.out) + c.direct.size
}

// appendPieces appends the bytes that wait for the end of the turn to ps, in the order in
// which they were sent.
func (c *Conn) appendPieces(ps [][]byte) [][]byte {
	pos := 0
	if d := c.direct; d != nil {
		for i, frame := range d.frames {
			if at := d.at[i]; at > pos {
				ps = append(ps, c.out[pos:at])
				pos = at
			}
			ps = append(ps, frame)
		}
	}
	if len(c.out) > pos {
		ps = append(ps, c.out[pos:])
	}
	return ps
}

// writePieces writes the waiting bytes, in one call when the carrier is a VectorWriter.
func (l *Loop) writePieces(c *Conn) {
	ps := c.appendPieces(l.pieces[:0])
	if v, ok := c.carrier.(VectorWriter); ok && len(ps) > 1 {
		c.lastOut = l.now
		l.metrics.writes.Inc()
		l.metrics.writtenBytes.Add(float64(c.unsent()))
		_ = v.Writev(ps) // after an error the carrier has closed itself, see write
	} else {
		for _, p := range ps {
			if c.flags&closed == 0 {
				l.write(c, p)
			}
		}
	}
	clear(ps)
	l.pieces = ps[:0]
}
