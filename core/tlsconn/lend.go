package tlsconn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// Buffers are what the connections of one loop share for the time of a call.
type Buffers struct {
	in    bytes.Buffer // crypto/tls's buffer of records
	raw   []byte       // records that crypto/tls may read in this call
	plain []byte
	out   []byte
}

// NewBuffers returns the buffers of one loop.
func NewBuffers() *Buffers {
	b := &Buffers{plain: make([]byte, 16<<10)}
	b.in.Grow(maxCiphertext + headerLen + bytes.MinRead)
	return b
}

// keepOut is the capacity, in bytes, of the largest output buffer that is kept.
const keepOut = 256 << 10

// rawInput and hand are the places of two buffers in a tls.Conn, which crypto/tls keeps for
// the life of a connection: 9 kB of the 14 kB of an idle one. When a release of Go has other
// fields, they are 0, and crypto/tls keeps its buffers (TestLending).
var rawInput, hand = bufferField("rawInput"), bufferField("hand")

// bufferField returns the offset of a field of tls.Conn that is a bytes.Buffer, else 0.
func bufferField(name string) uintptr {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[bytes.Buffer]() {
		return 0
	}
	return f.Offset
}

// buffer returns a field of c.
func buffer(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// lend gives the buffers of the loop to the connection, and records to read.
func (c *Conn) lend(b *Buffers, records []byte) {
	c.buf, b.raw = b, records
	if c.pool.lends {
		if own := buffer(c.tls, rawInput); own.Len() == 0 {
			*own, b.in = b.in, bytes.Buffer{}
		}
	}
}

// takeBack takes the buffers back. Only whole records were read, so nothing remains in them,
// except after an error.
func (c *Conn) takeBack(b *Buffers) {
	c.buf, b.raw = nil, nil
	if !c.pool.lends {
		return
	}
	own := buffer(c.tls, rawInput)
	if own.Len() == 0 && b.in.Cap() == 0 {
		b.in, *own = *own, bytes.Buffer{}
		b.in.Reset()
	}
}

// dropHandshake gives back the memory that only the handshake needed.
func (c *Conn) dropHandshake() {
	if !c.pool.lends {
		return
	}
	for _, offset := range []uintptr{rawInput, hand} {
		if b := buffer(c.tls, offset); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}
