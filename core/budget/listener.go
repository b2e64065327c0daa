package budget

import (
	"net"
	"sync/atomic"
)

// Listener accepts connections of a port that has few, such as that for operators.
type Listener struct {
	*net.TCPListener
	budget *Budget
	most   int64
	open   atomic.Int64
}

// Listener returns l with a bound of most connections, which also count for the Budget. A
// connection beyond a bound is closed on arrival.
func (b *Budget) Listener(l *net.TCPListener, most int) *Listener {
	return &Listener{TCPListener: l, budget: b, most: int64(most)}
}

// Accept returns the next connection for which there is room.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.budget.Accept(l.TCPListener)
		if err != nil {
			return nil, err
		}
		n := l.open.Add(1)
		if n <= l.most && l.budget.Take() {
			return &counted{TCPConn: c, l: l}, nil
		}
		l.open.Add(-1)
		l.budget.shed.Add(1)
		_ = c.Close() // the client gets no answer, so the error is of no use
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	*net.TCPConn
	l      *Listener
	closed atomic.Bool
}

// Close closes the connection.
func (c *counted) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		c.l.open.Add(-1)
		c.l.budget.Put()
	}
	return err
}
