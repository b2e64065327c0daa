package session

// markDirty enters s in the list for the next flush and lends it an output buffer.
func (l *Loop) markDirty(s *Conn) {
	if s.flags&dirty != 0 {
		return
	}
	s.flags |= dirty
	l.dirty = append(l.dirty, s)
	if s.out == nil {
		if n := len(l.buffers); n > 0 {
			s.out = l.buffers[n-1]
			l.buffers = l.buffers[:n-1]
		}
	}
}

// keepBuffer is the capacity, in bytes, of the largest output buffer that is kept for the
// next session.
const keepBuffer = 64 << 10

// flush writes once to every session that was sent something, and closes the sessions
// that are to be closed.
func (l *Loop) flush() {
	// The close of a session calls the handler, which may send to other sessions. Those
	// are appended to l.dirty, and this same loop serves them.
	for i := 0; i < len(l.dirty); i++ {
		s := l.dirty[i]
		l.dirty[i] = nil
		l.flushOne(s)
	}
	l.dirty = l.dirty[:0]
}

// flushOne writes the waiting frames of s, returns its buffers to the loop, and closes s
// when that is due.
func (l *Loop) flushOne(s *Conn) {
	s.flags &^= dirty
	switch {
	case s.flags&closed != 0:
	case s.held != nil:
		l.flushHeld(s)
	case s.unsent() > 0 && s.carrier.Buffered() > 0 &&
		s.carrier.Buffered()+s.unsent() > l.opt.MaxBuffered:
		l.closeSlow(s)
	case s.direct != nil:
		l.writePieces(s)
	case len(s.out) > 0:
		l.write(s, s.out)
	}
	if out := s.out; out != nil && cap(out) <= keepBuffer && len(l.buffers) < 1024 {
		l.buffers = append(l.buffers, out[:0])
	}
	s.out = nil
	s.dropDirect()
	if s.flags&(closing|closed) == closing {
		if s.flags&lingering == 0 && s.flushed() {
			s.carrier.Close()
			return
		}
		l.lingers = true // the next Tick looks at the session again
		if s.deadline == 0 || s.deadline > l.now+lingerLimit {
			s.deadline = l.now + lingerLimit
		}
	}
}

// flushHeld moves the waiting frames of s to its backlog, and lists s for feed unless it
// is too slow.
func (l *Loop) flushHeld(s *Conn) {
	s.holdSmall()
	if l.slowHeld(s) {
		l.closeSlow(s)
		return
	}
	l.feedDue = true
	if s.flags&feeding == 0 {
		s.flags |= feeding
		l.feeding = append(l.feeding, s)
	}
}

// write writes p to the carrier of s.
func (l *Loop) write(s *Conn, p []byte) {
	s.lastOut = l.now
	l.metrics.writes.Inc()
	l.metrics.writtenBytes.Add(float64(len(p)))
	// An error means that the carrier has closed itself and called Remove.
	_ = s.carrier.Write(p)
}

// closeSlow closes at once a session whose peer does not read.
func (l *Loop) closeSlow(s *Conn) {
	l.metrics.slow.Inc()
	if s.flags&closing == 0 {
		s.flags |= closing
		s.closeErr = ErrSlow
	}
	s.carrier.Close()
}
