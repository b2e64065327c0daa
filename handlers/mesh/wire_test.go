package mesh

import (
	"errors"
	"sync"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// wire is a link between two meshes. It connects again as link.Remote does.
type wire struct {
	c       *cluster
	from    *node
	to      registry.Node
	handler session.LinkHandler
	stop    chan struct{}
	stopped sync.Once

	mu   sync.Mutex
	conn *wireConn
}

// wireConn is a connection of a wire.
type wireConn struct {
	near, far *session.Link
	there     chan []byte
	back      chan []byte
	gone      chan struct{}
	once      sync.Once
}

func (c *cluster) dial(from *node, to registry.Node, h session.LinkHandler) Link {
	w := &wire{c: c, from: from, to: to, handler: h, stop: make(chan struct{})}
	c.mu.Lock()
	c.wires[w] = struct{}{}
	c.mu.Unlock()
	go w.run()
	return w
}

func (w *wire) run() {
	for {
		w.c.mu.Lock()
		to := w.c.nodes[w.to.Addr]
		if w.c.cut[[2]string{w.from.name, w.to.Name}] {
			to = nil
		}
		w.c.mu.Unlock()
		if to != nil {
			w.serve(to)
		}
		select {
		case <-w.stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *wire) serve(to *node) {
	conn := &wireConn{there: make(chan []byte, 1000), back: make(chan []byte, 1000),
		gone: make(chan struct{})}
	conn.near = session.NewLink(session.NextID(), w.to.Name, wireEnd{conn, conn.there})
	conn.far = session.NewLink(session.NextID(), w.from.name, wireEnd{conn, conn.back})
	if to.mesh.Servers().Open(conn.far) != nil || w.handler.Open(conn.near) != nil {
		return
	}
	w.mu.Lock()
	w.conn = conn
	w.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { conn.carry(conn.there, to.mesh.Servers(), conn.far) })
	wg.Go(func() { conn.carry(conn.back, w.handler, conn.near) })
	select {
	case <-conn.gone:
	case <-w.stop:
		conn.end()
	}
	wg.Wait()
	w.mu.Lock()
	w.conn = nil
	w.mu.Unlock()
	to.mesh.Servers().Close(conn.far, nil)
	w.handler.Close(conn.near, nil)
}

// carry delivers frames, one after the other.
func (c *wireConn) carry(frames chan []byte, h session.LinkHandler, l *session.Link) {
	for {
		select {
		case <-c.gone:
			return
		case b := <-frames:
			h.Frame(l, pdu.ParseHeader(b), b[pdu.HeaderLen:])
		}
	}
}

func (c *wireConn) end() { c.once.Do(func() { close(c.gone) }) }

// wireEnd carries what one side sends.
type wireEnd struct {
	c  *wireConn
	to chan []byte
}

func (e wireEnd) SendMessage(seq uint16, m pb.Message) error {
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		return err
	}
	select {
	case <-e.c.gone:
		return errors.New("the connection is gone")
	case e.to <- b:
		return nil
	default:
		return errors.New("the connection is full")
	}
}

func (e wireEnd) Close(error) { e.c.end() }

func (w *wire) Send(_ uint64, seq uint16, m pb.Message) error {
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	if conn == nil {
		return errors.New("not connected")
	}
	return conn.near.Send(seq, m)
}

func (w *wire) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		w.conn.end()
	}
}

func (w *wire) Close() error {
	w.stopped.Do(func() { close(w.stop) })
	w.c.mu.Lock()
	delete(w.c.wires, w)
	w.c.mu.Unlock()
	return nil
}
