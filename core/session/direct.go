package session

// A frame that is posted to a session does not change any more, so a long one – a segment of a file, a message with a picture in it – leaves from where it
// is. Only what is shorter is worth copying into the session's buffer, for the sake of one write. The order of all that is sent stays.

// directFrame is from which length on a frame is not copied, in bytes. Frames of largeFrame and more go piece by piece.
const directFrame = 8 << 10

// maxDirect is how many frames of one session leave in one write without being copied: kernels take 1,024 slices at once.
const maxDirect = 256

// keepDirect is how many free lists a loop keeps.
const keepDirect = 512

// direct is what a session sends in a turn without copying it.
type direct struct {
	frames [][]byte
	at     []int // where in the session's out each frame comes
	size   int   // of all frames
}

// VectorWriter is a Carrier that sends several slices in one go.
type VectorWriter interface {
	Carrier
	// Writev sends ps, together one or more whole frames, as Write does. It may change ps, not what is in them.
	Writev(ps [][]byte) error
}

// sendDirect sends a frame that does not change any more. Loop only.
func (s *Session) sendDirect(frame []byte) {
	l := s.loop
	l.markDirty(s)
	l.turnBytes += len(frame)
	if s.direct == nil {
		s.direct = l.takeDirect()
	}
	d := s.direct
	if len(d.frames) == maxDirect {
		s.out = append(s.out, frame...)
		return
	}
	d.frames, d.at = append(d.frames, frame), append(d.at, len(s.out))
	d.size += len(frame)
}

func (l *Loop) takeDirect() *direct {
	n := len(l.directs)
	if n == 0 {
		return &direct{}
	}
	d := l.directs[n-1]
	l.directs = l.directs[:n-1]
	return d
}

// dropDirect gives the list back to the loop.
func (s *Session) dropDirect() {
	d := s.direct
	if d == nil {
		return
	}
	s.direct = nil
	if len(s.loop.directs) >= keepDirect {
		return
	}
	clear(d.frames) // they are not this loop's to keep
	d.frames, d.at, d.size = d.frames[:0], d.at[:0], 0
	s.loop.directs = append(s.loop.directs, d)
}

// unsent is how many bytes wait for the end of the turn.
func (s *Session) unsent() int {
	if s.direct == nil {
		return len(s.out)
	}
	return len(s.out) + s.direct.size
}

// appendPieces appends what waits for the end of the turn to ps, in order.
func (s *Session) appendPieces(ps [][]byte) [][]byte {
	pos := 0
	if d := s.direct; d != nil {
		for i, frame := range d.frames {
			if at := d.at[i]; at > pos {
				ps = append(ps, s.out[pos:at])
				pos = at
			}
			ps = append(ps, frame)
		}
	}
	if len(s.out) > pos {
		ps = append(ps, s.out[pos:])
	}
	return ps
}

// writePieces writes what waits, in one go where the carrier can.
func (l *Loop) writePieces(s *Session) {
	ps := s.appendPieces(l.pieces[:0])
	if v, ok := s.carrier.(VectorWriter); ok && len(ps) > 1 {
		s.lastOut = l.now
		l.metrics.writes.Inc()
		l.metrics.writtenBytes.Add(float64(s.unsent()))
		_ = v.Writev(ps) // as in write
	} else {
		for _, p := range ps {
			if s.flags&closed == 0 {
				l.write(s, p)
			}
		}
	}
	clear(ps)
	l.pieces = ps[:0]
}
