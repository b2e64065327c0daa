package session

// markDirty enters c in the list for the next flush and lends it an output buffer.
func (l *Loop) markDirty(c *Conn) {
	if c.flags&dirty != 0 {
		return
	}
	c.flags = c.flags&^beaten | dirty
	l.dirty = append(l.dirty, c)
	if c.out == nil {
		if n := len(l.buffers); n > 0 {
			c.out = l.buffers[n-1]
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
		c := l.dirty[i]
		l.dirty[i] = nil
		l.flushOne(c)
	}
	l.dirty = l.dirty[:0]
}

// flushOne writes the waiting frames of c, returns its buffers to the loop, and closes c
// when that is due.
func (l *Loop) flushOne(c *Conn) {
	c.flags &^= dirty
	switch {
	case c.flags&closed != 0:
	case c.held != nil:
		l.flushHeld(c)
	case c.unsent() > 0 && c.carrier.Buffered() > 0 &&
		c.carrier.Buffered()+c.unsent() > l.opt.MaxBuffered:
		l.closeSlow(c)
	case c.direct != nil:
		l.writePieces(c)
	case len(c.out) > 0:
		l.write(c, c.out)
	}
	if out := c.out; out != nil && cap(out) <= keepBuffer && len(l.buffers) < 1024 {
		l.buffers = append(l.buffers, out[:0])
	}
	c.out = nil
	c.dropDirect()
	if c.flags&(closing|closed) == closing {
		if c.ended() {
			return
		}
		l.lingers = true // the next Tick looks at the session again
		if c.deadline == 0 || c.deadline > l.now+lingerLimit {
			c.deadline = l.now + lingerLimit
		}
		c.tellPeer()
	}
}

// flushHeld moves the waiting frames of c to its backlog, and lists c for feed unless it
// is too slow.
func (l *Loop) flushHeld(c *Conn) {
	c.holdSmall()
	if l.slowHeld(c) {
		l.closeSlow(c)
		return
	}
	l.feedDue = true
	if c.flags&feeding == 0 {
		c.flags |= feeding
		l.feeding = append(l.feeding, c)
	}
}

// write writes p to the carrier of c.
func (l *Loop) write(c *Conn, p []byte) {
	c.lastOut = l.now
	l.metrics.writes.Inc()
	l.metrics.writtenBytes.Add(float64(len(p)))
	// An error means that the carrier has closed itself and called Remove.
	_ = c.carrier.Write(p)
}

// closeSlow closes at once a session whose peer does not read.
func (l *Loop) closeSlow(c *Conn) {
	l.metrics.slow.Inc()
	if c.flags&closing == 0 {
		c.flags |= closing
		c.closeErr = ErrSlow
	}
	c.carrier.Close()
}
