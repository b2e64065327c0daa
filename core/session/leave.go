package session

// halfCloser is a Carrier that closes its directions one by one.
type halfCloser interface {
	// CloseWrite tells the peer that nothing follows what was written. Bytes of the peer
	// still arrive.
	CloseWrite()
	// Unread returns the number of bytes that have arrived and that the handler did not
	// get.
	Unread() int
}

// Leave ends the session as Linger does, and closes the direction to the peer as soon as
// everything that was sent has left. The peer sees the end, and closes the connection.
//
// Close would end both directions. When bytes of the peer are unread then, or arrive later,
// the kernel resets the connection, and the reset destroys what the peer has not read yet.
//
// The direction closes within the call when IsQuiet reported true just before: no frame can
// arrive in between unnoticed but for the time of two system calls. A frame that arrives
// later is dropped and counted.
//
// With a carrier that cannot close one direction, Leave does what Close does. Loop only.
func (c *Conn) Leave(err error) {
	if c.IsClosed() {
		return
	}
	if _, ok := c.carrier.(halfCloser); !ok {
		c.Close(err)
		return
	}
	c.Linger(err)
	c.flags |= leaving
	if c.unsent() == 0 {
		c.tellPeer() // otherwise the flush does it
	}
}

// IsQuiet reports whether the handler got every byte that has arrived, and everything that
// was sent has left. Loop only.
func (c *Conn) IsQuiet() bool {
	if c.unsent() > 0 || !c.flushed() {
		return false
	}
	h, ok := c.carrier.(halfCloser)
	return !ok || c.flags&closed != 0 || h.Unread() == 0
}

// ended closes the connection of a closing session once everything that was sent has left, unless
// the session lingers. It reports whether it did.
func (c *Conn) ended() bool {
	if !c.flushed() || c.farewell() || c.flags&lingering != 0 {
		return false
	}
	c.carrier.Close()
	return true
}

// farewell tells the peer of a closing session why it ends. When the carrier can, the session
// lingers, and farewell returns true.
func (c *Conn) farewell() bool {
	f, ok := c.carrier.(Farewell)
	if !ok || c.flags&closed != 0 || !f.Farewell(c.closeErr) {
		return false
	}
	c.flags = c.flags&^leaving | lingering
	c.deadline = c.loop.now + lingerLimit
	c.loop.lingers = true
	return true
}

// tellPeer closes the direction to the peer of a leaving session once all has left.
func (c *Conn) tellPeer() {
	if c.flags&(leaving|closed) != leaving || !c.flushed() {
		return
	}
	c.flags &^= leaving
	if c.farewell() {
		return
	}
	c.carrier.(halfCloser).CloseWrite()
}
