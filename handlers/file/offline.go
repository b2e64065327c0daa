package file

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// slowStart is the number of bytes of an upload that are requested segment by segment.
// The first implementation requested whole uploads in this way.
const slowStart = 16 * Segment

// do runs f on a worker, in the order of the task, and then f's result on c's loop,
// unless c is closed. When f fails, or cannot run, c is closed: its client logs in again,
// and the transfer resumes from the state of the spool.
func (s *Server) do(c *conn, what string, f func() (then func(), err error)) error {
	id := c.task.info.ID
	err := s.opt.Tasks.Do(s.key(id), func(context.Context) {
		then, err := f()
		if err != nil {
			// NotFound: the transfer was cancelled, replaced or is over. Closed: the
			// server is shutting down.
			if k := im.KindOf(err); k != im.NotFound && k != im.Closed {
				s.failed(what, id, err)
			}
			c.PushClose(err)
			return
		}
		c.Loop().Post(func() {
			if !c.IsClosed() {
				then()
			}
		})
	})
	if err != nil {
		c.Close(err)
	}
	return err
}

// errGone ends work that was queued for a connection which was replaced meanwhile.
var errGone = im.Errorf(im.NotFound, "the connection has been replaced, or the transfer has ended")

// beginUpload requests the missing part of an upload.
func (s *Server) beginUpload(c *conn) error {
	t := c.task
	return s.do(c, "upload not started", func() (func(), error) {
		if !t.is(sends, c) {
			return nil, errGone
		}
		if _, state, ok := s.spool.Lookup(t.info.ID); ok && state != spool.Unfinished {
			return func() { s.uploaded(c) }, nil
		}
		at, err := s.spool.Resume(t.info.ID)
		if err != nil {
			return nil, err
		}
		if at == int64(t.info.Size) {
			return s.finish(c)
		}
		return func() {
			c.asked, c.came, c.written = at, at, at
			s.ask(c)
		}, nil
	})
}

// ask requests as many segments from an uploading client as the window allows.
func (s *Server) ask(c *conn) {
	t := c.task
	window := int64(Segment)
	if c.written >= slowStart {
		window *= int64(s.opt.UploadWindow)
	}
	if c.came == c.asked {
		c.moved = c.Loop().Now()
	}
	for size := int64(t.info.Size); c.asked < size && c.asked-c.written < window; {
		n := min(Segment, size-c.asked)
		// Encoding cannot fail.
		_ = c.Send(0, pb.IMFilePullDataReq_builder{TaskId: proto.String(t.id(sends)),
			UserId:    proto.Uint32(c.user),
			TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
			Offset:    proto.Uint32(uint32(c.asked)), DataSize: proto.Uint32(uint32(n))}.Build())
		c.asked += n
	}
}

// handleData stores a segment of an upload. The client must send exactly the requested
// segments in the requested order. Any other segment closes the connection.
func (h *clients) handleData(ses *session.Client, _ uint16, m *pb.IMFilePullDataRsp) error {
	c, s := of(ses), h.s
	t, data, at := c.task, m.GetFileData(), c.came
	switch {
	case c.role != pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD || m.GetTaskId() != c.id():
		return s.violation(c, im.Errorf(im.Denied,
			"segment from a client in the role %s, or of another task", c.role))
	case m.GetResultCode() != 0:
		return s.violation(c, im.Errorf(im.Invalid, "the client cannot read its file: code %d",
			m.GetResultCode()))
	case at == c.asked || int64(m.GetOffset()) != at ||
		int64(len(data)) != min(Segment, c.asked-at):
		return s.violation(c, im.Errorf(im.Invalid, "%d bytes at %d instead of those at %d",
			len(data), m.GetOffset(), at))
	}
	c.came += int64(len(data))
	c.moved = ses.Loop().Now()
	return s.do(c, "segment not stored", func() (func(), error) {
		if !t.is(sends, c) {
			return nil, errGone
		}
		if err := s.spool.Append(t.info.ID, at, data); err != nil {
			return nil, err
		}
		s.metrics.uploaded.Add(float64(len(data)))
		end := at + int64(len(data))
		if end == int64(t.info.Size) {
			return s.finish(c)
		}
		return func() {
			c.written = end
			s.ask(c)
		}, nil
	})
}

// finish marks an upload as complete, on a worker, and returns the function that tells
// the client.
func (s *Server) finish(c *conn) (func(), error) {
	if err := s.spool.Finish(c.task.info.ID); err != nil {
		return nil, err
	}
	s.listing.note(s.opt.Now())
	s.metrics.ended.WithLabelValues("uploaded").Inc()
	return func() { s.uploaded(c) }, nil
}

// uploaded tells the client that the whole file is stored.
func (s *Server) uploaded(c *conn) {
	c.written, c.came = c.asked, c.asked
	// Encoding cannot fail.
	_ = c.Send(0, c.task.state(sends, pb.ClientFileState_CLIENT_FILE_DONE, c.task.info.From))
	s.linger(c)
}

// fetch sends n bytes of an offline file to its receiver. After the last bytes it sends
// the state DONE.
func (s *Server) fetch(c *conn, seq uint16, at int64, n int) error {
	if c.pulls >= maxPulls {
		return s.violation(c, im.Errorf(im.Busy, "more than %d segments requested at once",
			maxPulls))
	}
	c.pulls++
	t := c.task
	if at == 0 || c.served == 0 {
		c.served = at // the offset at which the client begins
	}
	last := false
	if at == c.served {
		c.served += int64(n)
		last = c.served == int64(t.info.Size)
	}
	return s.do(c, "segment not read", func() (func(), error) {
		if !t.is(receives, c) {
			return nil, errGone
		}
		var frame []byte
		if n > 0 {
			var data []byte
			frame, data = segmentFrame(seq, t.info.ID, c.user, uint32(at), n)
			if err := s.spool.Read(t.info.ID, at, data); err != nil {
				return nil, err
			}
			s.metrics.fetched.Add(float64(n))
		}
		if last {
			if err := s.spool.MarkFetched(t.info.ID); err != nil {
				s.failed("file not marked as fetched", t.info.ID, err) // the file only stays longer
			}
			s.metrics.ended.WithLabelValues("fetched").Inc()
		}
		return func() {
			c.pulls--
			c.SendShared(frame)
			if last {
				// Encoding cannot fail.
				_ = c.Send(0, t.state(receives, pb.ClientFileState_CLIENT_FILE_DONE, t.info.From))
			}
		}, nil
	})
}

// segmentFrame returns the frame of an IMFilePullDataRsp with room for n bytes of data,
// so that the spool reads the data into the frame.
func segmentFrame(seq uint16, id string, user, at uint32, n int) (frame, data []byte) {
	b := pdu.AppendHeader(make([]byte, 0, pdu.HeaderLen+len(id)+32+n), pb.CmdFilePullDataRsp, seq)
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType),
		uint64(pb.FileServerError_FILE_SERVER_ERRNO_OK))
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), id)
	b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), uint64(user))
	b = protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), uint64(at))
	b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.BytesType), uint64(n))
	frame = b[:len(b)+n]
	putLength(frame, len(frame))
	return frame, frame[len(b):]
}

// endOffline ends a client's work on an offline file. A sender that cancels and a
// receiver that refuses delete the file.
func (s *Server) endOffline(c *conn, how string) error {
	t := c.task
	s.linger(c)
	if c.role == pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD && how == "cancelled" {
		return nil // the receiver may log in again
	}
	return s.do(c, "file not deleted", func() (func(), error) {
		if _, state, ok := s.spool.Lookup(t.info.ID); ok &&
			c.role == pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD && state != spool.Unfinished {
			return func() {}, nil // too late: the receiver may have been notified
		}
		if err := s.spool.Delete(t.info.ID); err != nil {
			return nil, err
		}
		s.metrics.ended.WithLabelValues(how).Inc()
		return func() {}, nil
	})
}
