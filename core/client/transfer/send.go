package transfer

import (
	"errors"
	"io"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// source is the sender's file.
type source struct {
	r io.ReaderAt
}

// Send sends a file from r for a task of Offer. The file must have the announced
// size and must not change before the transfer has ended. The caller closes it. An upload
// to the server continues after a broken connection, and with the same File in another
// Client of the same user: the server requests the missing segments. Busy when the same
// task is in progress, Closed when the Client has ended.
func (fl *Files) Send(f File, r io.ReaderAt, o Options) (*Transfer, error) {
	role := pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD
	if f.Online {
		role = pb.ClientFileRole_CLIENT_REALTIME_SENDER
	}
	t := fl.newTransfer(f, role, o)
	t.src = source{r: r}
	if err := t.begin(); err != nil {
		return nil, err
	}
	return t, nil
}

// announce tells the receiver, through the message server, that the file server has the
// file.
func (t *Transfer) announce() error {
	f := t.file
	return t.files.tellSurely(t.files.ctx, pb.IMFileAddOfflineReq_builder{
		FromUserId: new(f.From), ToUserId: new(f.To), TaskId: new(f.Task), FileName: new(f.Name),
		FileSize: new(uint32(f.Size)),
	}.Build())
}

// give answers a request for a segment. An error ends the transfer.
func (l *link) give(seq uint16, m *pb.IMFilePullDataReq) error {
	t := l.t
	offset, n := int64(m.GetOffset()), int64(m.GetDataSize())
	if t.src.r == nil || m.GetTaskId() != t.file.Task || n < 1 || n > segment ||
		offset+n > t.file.Size {
		return im.Errorf(im.Malformed, "asked for %d bytes at %d of a file of %d", n, offset,
			t.file.Size)
	}
	if l.buf == nil {
		l.buf = make([]byte, segment)
	}
	got, err := t.src.r.ReadAt(l.buf[:n], offset)
	if int64(got) < n {
		if errors.Is(err, io.EOF) {
			err = im.Errorf(im.Invalid, "the file has become shorter")
		}
		return im.WithKind(im.Internal, "read", err)
	}
	err = l.conn.Send(pb.IMFilePullDataRsp_builder{
		ResultCode: new(uint32(0)), TaskId: new(t.file.Task), UserId: new(t.files.session.UserID()),
		Offset: new(m.GetOffset()), FileData: l.buf[:n],
	}.Build(), seq)
	if err != nil {
		return nil // the connection has ended and reports it
	}
	t.carried.Add(n)
	t.moveTo(offset + n)
	return nil
}
