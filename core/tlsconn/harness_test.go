package tlsconn

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"teamtalk/core/cert/certtest"
)

// handshakes returns Handshakes with the certificate.
func handshakes(o Options) *Handshakes {
	o.Config = &tls.Config{Certificates: []tls.Certificate{certtest.Shared().Pair}}
	return NewHandshakes(o)
}

// clientConfig returns the configuration of a client of one version.
func clientConfig(version uint16) *tls.Config {
	return &tls.Config{RootCAs: certtest.Shared().Roots, ServerName: "localhost",
		MinVersion: version, MaxVersion: version}
}

// echo is a loop with one connection, which sends back what it receives.
type echo struct {
	*Conn
	t      *testing.T
	socket net.Conn
	buf    *Buffers
	tasks  chan func()
	done   chan struct{} // closed when the loop has ended
	end    sync.Once
	stop   chan struct{}
	most   int // bytes that one turn reads
	wait   []byte
	ready  bool  // loop only, until done
	failed error // loop only, until done
	got    bytes.Buffer
	mute   bool // sends nothing back
}

// start serves a socket. most bounds the bytes that the loop reads at once.
func start(t *testing.T, pool *Handshakes, socket net.Conn, most int) *echo {
	e := &echo{t: t, socket: socket, buf: NewBuffers(), tasks: make(chan func()),
		done: make(chan struct{}), stop: make(chan struct{}), most: most}
	e.Conn = New(pool, e)
	go e.read()
	go e.loop()
	t.Cleanup(e.close)
	return e
}

// pair returns a loop and the socket of its client.
func pair(t *testing.T, pool *Handshakes, most int) (*echo, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, pool, server, most), client
}

func (e *echo) loop() {
	defer close(e.done)
	for {
		select {
		case f := <-e.tasks:
			f()
		case <-e.stop:
			return
		}
	}
}

func (e *echo) close() {
	e.end.Do(func() {
		e.socket.Close()
		close(e.stop)
	})
	<-e.done
}

func (e *echo) read() {
	for {
		p := make([]byte, e.most)
		n, err := e.socket.Read(p)
		if n > 0 {
			e.Post(func() { e.input(p[:n]) })
		}
		if err != nil {
			e.Post(func() { e.fail(err) })
			return
		}
	}
}

// input passes bytes to the connection, as a loop does, and keeps what it leaves.
func (e *echo) input(p []byte) {
	if e.failed != nil {
		return
	}
	e.wait = append(e.wait, p...)
	used, err := e.Input(e.wait, e.buf, e.deliver)
	e.wait = e.wait[used:]
	if err != nil {
		e.fail(err)
	}
}

func (e *echo) deliver(plain []byte) {
	e.got.Write(plain)
	if e.mute {
		return
	}
	if err := e.Write(bytes.Clone(plain), e.buf); err != nil {
		e.fail(err)
	}
}

func (e *echo) fail(err error) {
	if e.failed == nil {
		e.failed = err
		e.Close(e.buf)
		e.end.Do(func() {
			e.socket.Close()
			close(e.stop)
		})
	}
}

// Send implements Transport.
func (e *echo) Send(p []byte) error {
	_, err := e.socket.Write(p)
	return err
}

// Post implements Transport.
func (e *echo) Post(f func()) {
	select {
	case e.tasks <- f:
	case <-e.done:
	}
}

// Ready implements Transport.
func (e *echo) Ready(err error) {
	e.ready = err == nil
	if err == nil {
		err = e.Flush(e.buf, e.deliver)
	}
	if err != nil {
		e.fail(err)
	}
}

// on runs f on the loop and waits for it.
func (e *echo) on(f func()) {
	ran := make(chan struct{})
	e.Post(func() { f(); close(ran) })
	select {
	case <-ran:
	case <-e.done:
	}
}

// exchange writes p and reads as many bytes.
func exchange(t *testing.T, c io.ReadWriter, p []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(p)
		sent <- err
	}()
	got := make([]byte, len(p))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, p) {
		t.Fatal("the echo differs")
	}
}
