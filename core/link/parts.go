package link

import (
	"fmt"
	"sync/atomic"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Answers bounds the memory of answers that arrive in parts, over all links that share it.
// Any goroutine.
type Answers struct {
	one, all int64
	used     atomic.Int64
}

// NewAnswers returns the bounds of a process: an answer has at most longest bytes, and the
// answers whose parts arrive at the same time have twice as many.
func NewAnswers(longest int) *Answers {
	return &Answers{one: int64(longest), all: 2 * int64(longest)}
}

// longest returns the bound of one answer, 0 for nil.
func (a *Answers) longest() int64 {
	if a == nil {
		return 0
	}
	return a.one
}

// reserve counts an answer of n bytes.
func (a *Answers) reserve(n int64) error {
	if n > a.one {
		return tooLong(fmt.Errorf("the answer has %d bytes, the setting link.max_answer is %d",
			n, a.one))
	}
	if a.used.Add(n) > a.all {
		a.used.Add(-n)
		return tooLong(fmt.Errorf("an answer of %d bytes exceeds what may arrive at a time: twice "+
			"the setting link.max_answer, %d", n, a.one))
	}
	return nil
}

// assembly is an answer that has not arrived whole.
type assembly struct {
	cmd   pb.Command
	body  []byte
	total int64
}

// part takes a part of an answer. An error ends the connection. Used by the reader only.
func (c *conn) part(seq uint16, p *pb.IMAnswerPart) error {
	id, ok := parseAttach(p.GetAttachData(), c.calls.tag)
	if !ok {
		c.r.metrics.ignored.Inc()
		return nil
	}
	a := c.parts[id]
	if p.GetOffset() == 0 {
		c.dropParts(id)
		a = c.begin(id, p)
	}
	if a == nil {
		return nil // its call has failed
	}
	if int64(p.GetOffset()) != int64(len(a.body)) ||
		int64(len(a.body)+len(p.GetData())) > a.total {
		c.dropParts(id)
		c.calls.fail(id, im.Errorf(im.Malformed, "the parts of an answer do not fit each other"))
		return nil
	}
	a.body = append(a.body, p.GetData()...)
	if int64(len(a.body)) < a.total {
		return nil
	}
	defer c.dropParts(id)
	c.r.metrics.inParts.Inc()
	return c.receive(pdu.Header{Command: a.cmd, Seq: seq}, a.body)
}

// begin makes room for the answer to a call. It returns nil when the call has ended, or
// fails because the answer is too long.
func (c *conn) begin(id uint32, p *pb.IMAnswerPart) *assembly {
	for other := range c.parts { // of calls that have ended
		if !c.calls.waitsFor(other) {
			c.dropParts(other)
		}
	}
	if !c.calls.waitsFor(id) {
		c.r.metrics.late.Inc()
		return nil
	}
	a := &assembly{cmd: pb.Command(p.GetCommand()), total: int64(p.GetTotal())}
	if uint32(a.cmd) != p.GetCommand() || a.cmd == pb.CmdAnswerPart {
		c.calls.fail(id, im.Errorf(im.Malformed, "an answer in parts has command %#x",
			p.GetCommand()))
		return nil
	}
	if err := c.r.o.Answers.reserve(a.total); err != nil {
		c.r.metrics.tooLong.Inc()
		c.r.o.Log.Error("answer refused", "conn", c.session.ID(), "cmd", a.cmd.String(), "err", err)
		c.calls.fail(id, err)
		return nil
	}
	a.body = make([]byte, 0, a.total)
	if c.parts == nil {
		c.parts = map[uint32]*assembly{}
	}
	c.parts[id] = a
	return a
}

// dropParts forgets the parts of an answer, if there are any.
func (c *conn) dropParts(id uint32) {
	if a := c.parts[id]; a != nil {
		c.r.o.Answers.used.Add(-a.total)
		delete(c.parts, id)
	}
}

// dropAllParts forgets the parts of all answers: the connection has ended.
func (c *conn) dropAllParts() {
	for id := range c.parts {
		c.dropParts(id)
	}
}
