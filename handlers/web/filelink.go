package web

import (
	"bufio"
	"io"
	"net"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

const (
	fileSegment  = 32 << 10 // bytes in one frame
	fileWindow   = 8        // segments that are asked for and not received
	fileBuffer   = 2 * fileSegment
	maxFileFrame = 2 * fileSegment
	// lastWait bounds the wait for the file server to note that a file was fetched.
	lastWait = 5 * time.Second
	// taskGone is the result for a transfer that the file server does not know any more.
	taskGone = uint32(pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_WITH_INVALID_TASK_ID)
)

// fileLink is the connection of one transfer to a file server. One goroutine.
type fileLink struct {
	fileRequest
	role  pb.ClientFileRole
	conn  net.Conn
	in    *bufio.Reader
	wait  time.Duration // for a frame in either direction
	leave func()
	seq   uint16
	frame []byte // the last one that was read
	out   []byte
}

// close ends the connection.
func (l *fileLink) close() {
	_ = l.conn.Close() // what counts was answered
	l.leave()
}

// failed returns an error of the connection to the file server.
func (l *fileLink) failed(err error) error {
	return im.WithKind(im.Unavailable, "file server "+l.server, err)
}

// write sends a message.
func (l *fileLink) write(seq uint16, m pb.Message) error {
	var err error
	if l.out, err = pdu.Append(l.out[:0], seq, m); err != nil {
		return err
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.wait)) // an error shows in the write
	if _, err := l.conn.Write(l.out); err != nil {
		return l.failed(err)
	}
	return nil
}

// read returns the next message, which is valid until the next call.
func (l *fileLink) read(wait time.Duration) (pb.Message, uint16, error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(wait)) // an error shows in the read
	if cap(l.frame) < pdu.HeaderLen {
		l.frame = make([]byte, pdu.HeaderLen, maxFileFrame)
	}
	head := l.frame[:pdu.HeaderLen]
	if _, err := io.ReadFull(l.in, head); err != nil {
		return nil, 0, l.failed(err)
	}
	h, _, _, err := pdu.Next(head, maxFileFrame)
	if err != nil {
		return nil, 0, l.failed(err)
	}
	body := l.frame[pdu.HeaderLen:h.Length]
	if _, err := io.ReadFull(l.in, body); err != nil {
		return nil, 0, l.failed(err)
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		return nil, 0, l.failed(err)
	}
	return m, h.Seq, nil
}

// login logs in to the transfer.
func (l *fileLink) login() error {
	err := l.write(1, pb.IMFileLoginReq_builder{UserId: new(l.user), TaskId: new(l.task),
		FileRole: l.role.Enum()}.Build())
	for err == nil {
		var m pb.Message
		if m, _, err = l.read(l.wait); err != nil {
			break
		}
		if a, ok := m.(*pb.IMFileLoginRsp); ok {
			if a.GetResultCode() != 0 {
				return im.Errorf(im.Denied, "the file server does not allow the transfer: it "+
					"ended, or is another user's (%d)", a.GetResultCode())
			}
			return nil
		}
	}
	return err
}

// give answers the requests of the file server for segments of body, until it has the file. It may
// have the begin already, of an upload that broke off.
func (l *fileLink) give(body io.Reader) error {
	at := int64(0)
	for {
		m, seq, err := l.read(l.wait)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pb.IMFilePullDataReq:
			if at, err = l.segment(body, at, seq, m); err != nil {
				return err
			}
		case *pb.IMFileState:
			return l.given(body, at, m.GetState())
		}
	}
}

// segment sends one segment, and returns where it ends in body.
func (l *fileLink) segment(body io.Reader, at int64, seq uint16, m *pb.IMFilePullDataReq) (
	int64, error) {
	offset, n := int64(m.GetOffset()), int64(m.GetDataSize())
	if m.GetTaskId() != l.task || n < 1 || n > fileSegment || offset < at {
		return at, l.failed(im.Errorf(im.Malformed, "asked for %d bytes at %d, after %d", n, offset,
			at))
	}
	if _, err := io.CopyN(io.Discard, body, offset-at); err != nil {
		return at, ofPage(err)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(body, data); err != nil {
		return at, ofPage(err)
	}
	return offset + n, l.write(seq, pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)),
		TaskId: new(l.task), UserId: new(l.user), Offset: new(m.GetOffset()),
		FileData: data}.Build())
}

// given returns the result of an upload by the last state of the file server.
func (l *fileLink) given(body io.Reader, at int64, state pb.ClientFileState) error {
	if state != pb.ClientFileState_CLIENT_FILE_DONE {
		return im.Errorf(im.Denied, "the transfer was cancelled")
	}
	if at == 0 {
		return nil // the file server has it from an earlier upload
	}
	if n, err := body.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return im.Errorf(im.Invalid, "the file is longer than announced")
	}
	return nil
}

// direct reports whether the sender passes the file on itself, through the file server.
func (l *fileLink) direct() bool { return l.role == pb.ClientFileRole_CLIENT_REALTIME_RECVER }

// tell tells the sender of a direct file its end.
func (l *fileLink) tell(state pb.ClientFileState) error {
	l.seq++
	return l.write(l.seq, pb.IMFileState_builder{State: state.Enum(), TaskId: new(l.task),
		UserId: new(l.user)}.Build())
}

// meet waits until the sender of a direct file has connected.
func (l *fileLink) meet() error {
	for {
		m, _, err := l.read(l.wait)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pb.IMFileState:
			if m.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY {
				return errSenderEnded
			}
			return nil
		}
	}
}

// errSenderEnded reports that the sender has ended a transfer.
var errSenderEnded = im.Errorf(im.Denied, "the transfer was ended")

// take fetches a file of a size, and passes its parts to write, in order.
func (l *fileLink) take(size int64, write func([]byte) error) error {
	if !l.direct() {
		return l.pull(size, write)
	}
	if err := l.meet(); err != nil {
		return err
	}
	if err := l.pull(size, write); err != nil {
		if l.tell(pb.ClientFileState_CLIENT_FILE_CANCEL) == nil {
			l.drain() // bytes that are not read would reset the connection
		}
		return err
	}
	if err := l.tell(pb.ClientFileState_CLIENT_FILE_DONE); err != nil {
		return err
	}
	l.drain()
	return nil
}

// refuse tells the sender of a direct file that the user does not take it.
func (l *fileLink) refuse() error {
	if err := l.tell(pb.ClientFileState_CLIENT_FILE_REFUSE); err != nil {
		return err
	}
	l.drain()
	return nil
}

// drain ends this direction, and waits until the file server has read what was sent.
func (l *fileLink) drain() {
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // an error shows in the read
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(lastWait))
	_, _ = io.Copy(io.Discard, l.in) // what follows the end says nothing
}

// pull asks for the segments of a file.
func (l *fileLink) pull(size int64, write func([]byte) error) error {
	mode := pb.TransferFileType_FILE_TYPE_OFFLINE
	if l.direct() {
		mode = pb.TransferFileType_FILE_TYPE_ONLINE
	}
	for have, asked := int64(0), int64(0); have < size; {
		for asked < size && asked < have+fileWindow*fileSegment {
			n := min(fileSegment, size-asked)
			l.seq++
			err := l.write(l.seq, pb.IMFilePullDataReq_builder{TaskId: new(l.task),
				UserId: new(l.user), TransMode: mode.Enum(),
				Offset: new(uint32(asked)), DataSize: new(uint32(n))}.Build())
			if err != nil {
				return err
			}
			asked += n
		}
		m, _, err := l.read(l.wait)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pb.IMFilePullDataRsp:
			data := m.GetFileData()
			switch {
			case m.GetResultCode() == taskGone && l.direct():
				return errSenderEnded // its notice crossed the request
			case m.GetResultCode() != 0:
				return im.Errorf(im.Denied, "the file server does not send it (%d)",
					m.GetResultCode())
			case m.GetTaskId() != l.task || int64(m.GetOffset()) != have ||
				int64(len(data)) != min(fileSegment, size-have):
				return l.failed(im.Errorf(im.Malformed, "%d bytes at %d, want those at %d",
					len(data), m.GetOffset(), have))
			}
			if err := write(data); err != nil {
				return ofPage(err)
			}
			have += int64(len(data))
		case *pb.IMFileState:
			if !l.direct() || m.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY {
				return errSenderEnded
			}
			asked = have // a sender that connects again has no requests yet
		}
	}
	if l.direct() {
		return nil
	}
	// The file server sends the state DONE once it has noted that the file was fetched.
	for {
		m, _, err := l.read(lastWait)
		if _, done := m.(*pb.IMFileState); done || err != nil {
			return nil // the receiver has the file in any case
		}
	}
}
