package passing

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"teamtalk/core/im"
)

// A query is in memory from its arrival to its answer: while it waits for its turn, while
// another server has it, and while it is held. Most have some ten bytes, so their number
// bounds them. A list of ids has up to 64 KiB, and takes up to 14 times as much decoded. So
// long queries are bounded in bytes, too. This is no part of the room of the queries that are
// held: a client that fills one must not fill the other.

const (
	// shortQuery is the memory up to which a query does not count, in bytes.
	shortQuery = 1 << 10
	// maxLong bounds the bytes of the long queries of one connection. When it has none, one
	// of any length is taken: a client may ask for the status of all users of the directory.
	maxLong = 512 << 10
	// maxAllLong bounds the long queries of all connections in bytes. Beyond, a connection
	// may have one, up to maxFirstLong for all: thousands of clients that log in while
	// db_proxy stands still ask for the status of all users.
	maxAllLong   = 32 << 20
	maxFirstLong = 256 << 20
)

// longQueries counts the memory of long queries. Any goroutine.
type longQueries struct {
	bytes  atomic.Int64
	failed *prometheus.CounterVec
}

func newLongQueries(opt Options) *longQueries {
	l := &longQueries{failed: opt.QueriesFailed}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_msg_queries_long_bytes",
			Help: "Memory of the queries above 1 KiB that wait for their answers, or for their " +
				"turn, in bytes.",
		}, func() float64 { return float64(l.bytes.Load()) }))
	}
	return l
}

// take counts a query of a connection. The error says that there is no room for it.
func (l *longQueries) take(c *Client, size int) error {
	if size == 0 {
		return nil
	}
	if c.long > 0 && int(c.long)+size > maxLong {
		l.failed.WithLabelValues("too_large").Inc()
		return im.Errorf(im.Denied, "query of %d bytes dropped: those of its connection that wait "+
			"have %d, at most %d may wait", size, c.long, maxLong)
	}
	limit := int64(maxFirstLong)
	if c.long > 0 {
		limit = maxAllLong
	}
	if n := l.bytes.Add(int64(size)); n > limit {
		l.bytes.Add(-int64(size))
		l.failed.WithLabelValues("room_full").Inc()
		return im.Errorf(im.Denied, "query of %d bytes dropped: those of all clients that wait "+
			"have %d, at most %d may wait", size, n-int64(size), limit)
	}
	c.long += int32(size)
	return nil
}

// put ends what take counted.
func (l *longQueries) put(c *Client, size int) {
	c.long -= int32(size)
	l.bytes.Add(-int64(size))
}

// Memory of an element of a list, in bytes, beyond its encoding: in a decoded slice that has
// grown by a quarter.
const (
	numberMemory  = 5
	messageMemory = 80
)

// memoryOf returns about how many bytes of memory a query takes, 0 when it is short or nil.
func memoryOf(m proto.Message) int {
	if m == nil {
		return 0
	}
	n := proto.Size(m) // texts and unknown fields
	if n <= shortQuery/16 {
		return 0
	}
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			n += messageMemory * v.List().Len()
		case f.IsList():
			n += numberMemory * v.List().Len()
		}
		return true
	})
	if n <= shortQuery {
		return 0
	}
	return n
}
