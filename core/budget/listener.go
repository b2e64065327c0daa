package budget

import (
	"container/list"
	"net"
	"sync"
)

// Listener accepts connections of a port that has few, such as that for operators. A connection
// waits from its arrival until Busy says that it is answered. When the port is full, the one that
// has been waiting longest is closed to make room, so silent connections keep nobody out.
type Listener struct {
	*net.TCPListener
	budget *Budget
	most   int

	mu        sync.Mutex
	open      int
	waiting   list.List // of *counted, the one that has been waiting longest first
	displaced int64
}

// Listener returns l with a bound of most connections, which also count for the Budget. A
// connection beyond a bound is closed on arrival when all others are being answered.
func (b *Budget) Listener(l *net.TCPListener, most int) *Listener {
	return &Listener{TCPListener: l, budget: b, most: most}
}

// Accept returns the next connection for which there is room.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		tcp, err := l.budget.Accept(l.TCPListener)
		if err != nil {
			return nil, err
		}
		c := &counted{TCPConn: tcp, l: l}
		if l.enter(c) {
			return c, nil
		}
		l.budget.shed.Add(1)
		_ = tcp.Close() // the client gets no answer, so the error is of no use
	}
}

// enter counts c, and makes room for it. It returns false when there is none.
func (l *Listener) enter(c *counted) bool {
	room, longest := l.take(c)
	if room || longest == nil {
		return room
	}
	_ = longest.Close() // the client gets no answer, so the error is of no use
	room, _ = l.take(c)
	return room
}

// take counts c when there is room. Otherwise it returns the connection to close; nil for none.
func (l *Listener) take(c *counted) (room bool, longest *counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most || !l.budget.Take() {
		if e := l.waiting.Front(); e != nil {
			l.displaced++
			return false, e.Value.(*counted)
		}
		return false, nil
	}
	l.open++
	c.at = l.waiting.PushBack(c)
	return true, nil
}

// Busy says whether a connection of the listener is being answered now. Any goroutine.
func (l *Listener) Busy(conn net.Conn, busy bool) {
	c, ok := conn.(*counted)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.closed:
	case busy && c.at != nil:
		l.waiting.Remove(c.at)
		c.at = nil
	case !busy && c.at == nil:
		c.at = l.waiting.PushBack(c)
	}
}

// Displaced returns the number of connections that were closed to make room for others.
func (l *Listener) Displaced() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.displaced
}

// counted is a connection that counts until it is closed.
type counted struct {
	*net.TCPConn
	l *Listener

	// With l.mu held.
	at     *list.Element // in l.waiting; nil while it is answered
	closed bool
}

// Close closes the connection.
func (c *counted) Close() error {
	err := c.TCPConn.Close()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.closed {
		return err
	}
	c.closed = true
	if c.at != nil {
		c.l.waiting.Remove(c.at)
		c.at = nil
	}
	c.l.open--
	c.l.budget.Put()
	return err
}
