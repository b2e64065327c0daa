package file

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// tell sends m to another client of the task. Loop of c only.
func (s *Server) tell(c, to *conn, seq uint16, m pb.Message) error {
	if to.Loop() == c.Loop() {
		return to.Send(seq, m)
	}
	return to.Push(seq, m)
}

// tellEnd tells a client that its transfer is over. Any goroutine.
func (s *Server) tellEnd(to *conn, seq uint16, m pb.Message) {
	to.Loop().Post(func() {
		_ = to.Send(seq, m) // encoding cannot fail
		s.linger(to)
	})
}

// relayPull forwards a receiver's request for a segment, which begins inside the file, to the
// sender. Windows answers with as many bytes as the request names, also behind the end of its
// file, so a request that ends there is cut, as it is for a stored file.
func (s *Server) relayPull(c *conn, seq uint16, m *pb.IMFilePullDataReq) error {
	t := c.task
	m.SetDataSize(min(m.GetDataSize(), Segment, t.info.Size-m.GetOffset()))
	t.mu.Lock()
	to, n := t.conns[sends], len(t.pulls)
	ok := to != nil && !t.ended && t.conns[receives] == c && n < maxPulls
	if ok {
		if n == 0 {
			t.moved = c.Loop().Now()
		}
		t.pulls = append(t.pulls, pull{m.GetOffset(), m.GetDataSize()})
	}
	t.mu.Unlock()
	switch {
	case n >= maxPulls:
		return s.violation(c, im.Errorf(im.Busy, "more than %d segments requested at once",
			maxPulls))
	case !ok:
		return s.refusePull(c, seq, m,
			pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_WITH_INVALID_TASK_ID)
	}
	m.SetTaskId(t.id(sends))
	return s.tell(c, to, seq, m)
}

// violation closes the connection of a client that breaks the protocol.
func (s *Server) violation(c *conn, err error) error {
	s.metrics.violations.Inc()
	c.Close(err)
	return err
}

// relayData forwards a segment to the receiver, which must have requested it. body is
// valid during the call only, and the id in it becomes the receiver's. The caller closes the
// sender's connection when relayData returns an error.
func (s *Server) relayData(c *conn, seq uint16, body []byte) error {
	seg, err := parseSegment(body)
	if err != nil {
		return im.WithKind(im.Malformed, "segment", err)
	}
	t := c.task
	if string(seg.task) != t.id(sends) {
		return im.Errorf(im.Denied, "segment of another task")
	}
	t.mu.Lock()
	if t.ended || t.conns[sends] != c {
		t.mu.Unlock()
		return nil // it crossed the end of the transfer
	}
	asked := func(p pull) bool { return p.offset == seg.offset }
	if i := slices.IndexFunc(t.stale, asked); i >= 0 {
		t.stale = slices.Delete(t.stale, i, i+1)
		t.moved = c.Loop().Now()
		t.mu.Unlock()
		return nil // the connection that requested it was replaced
	}
	i := slices.IndexFunc(t.pulls, asked)
	if i < 0 || seg.length > int(t.pulls[i].size) || (seg.length == 0 && seg.code == 0) {
		t.mu.Unlock()
		return im.Errorf(im.Invalid, "%d bytes at %d were not requested", seg.length, seg.offset)
	}
	t.pulls = slices.Delete(t.pulls, i, i+1)
	t.moved = c.Loop().Now()
	to := t.conns[receives]
	t.mu.Unlock()
	if to == nil {
		return nil
	}
	s.metrics.relayed.Add(float64(seg.length))
	copy(seg.task, t.info.ID) // all ids are UUIDs, of one length
	passOn(c, to, seq, body)
	return nil
}

// passOn sends a segment, which is in the read buffer of c's loop, to another client. The
// bytes are copied once: on the same loop into the write buffer, for another loop into a
// new frame that is written from there.
func passOn(c, to *conn, seq uint16, body []byte) {
	frame := func(room int) []byte {
		head := pdu.AppendHeader(make([]byte, 0, room), pb.CmdFilePullDataRsp, seq)
		putLength(head, pdu.HeaderLen+len(body))
		return head
	}
	if to.Loop() == c.Loop() {
		to.SendFrame(frame(pdu.HeaderLen))
		to.SendFrame(body)
		return
	}
	// When the mailbox is full, PushShared closes the session, which ends the transfer.
	_ = to.PushShared(append(frame(pdu.HeaderLen+len(body)), body...))
}

// putLength sets the length in the header of a frame.
func putLength(frame []byte, n int) {
	frame[0], frame[1], frame[2], frame[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}

// endRelay ends a transfer between two clients with the state that c reports. The other
// side is told, at once or at its login.
func (s *Server) endRelay(c *conn, seq uint16, st pb.ClientFileState, how string) error {
	t := c.task
	e, _, _ := endOf(c.role)
	s.mu.Lock()
	t.mu.Lock()
	ok, peer := !t.ended && t.conns[e] == c, t.conns[1-e]
	if ok {
		t.ended, t.pulls = true, nil
	}
	t.mu.Unlock()
	switch {
	case ok && peer != nil:
		s.dropRelay(t)
	case ok:
		t.untold, t.awaited = t.state(1-e, st, c.user), 1-e
	}
	s.mu.Unlock()
	if !ok {
		return im.Errorf(im.NotFound, "the transfer has ended")
	}
	s.metrics.ended.WithLabelValues(how).Inc()
	if peer != nil {
		s.tellEnd(peer, seq, t.state(1-e, st, c.user))
	}
	s.linger(c)
	return nil
}

// segment holds the fields of an IMFilePullDataRsp that are checked.
type segment struct {
	code   uint32
	task   []byte // within the body
	offset uint32
	length int
}

// parseSegment reads the fields of an encoded IMFilePullDataRsp without copying its data.
// All fields are required. When a field occurs twice, the last value counts, as in the
// receiver's decoder.
func parseSegment(b []byte) (seg segment, err error) {
	var seen uint
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return segment{}, protowire.ParseError(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return segment{}, protowire.ParseError(n)
		}
		switch {
		case typ == protowire.VarintType && num <= 4:
			v, _ := protowire.ConsumeVarint(b)
			switch num {
			case 1:
				seg.code = uint32(v)
			case 4:
				seg.offset = uint32(v)
			}
			seen |= 1 << num
		case typ == protowire.BytesType && (num == 2 || num == 5):
			v, _ := protowire.ConsumeBytes(b)
			if num == 2 {
				seg.task = v
			} else {
				seg.length = len(v)
			}
			seen |= 1 << num
		}
		b = b[n:]
	}
	if seen&0b111110 != 0b111110 {
		return segment{}, im.Errorf(im.Malformed, "a required field is missing")
	}
	return seg, nil
}
