package transfer

import (
	"errors"
	"os"
	"path/filepath"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// partial is the received part of a file.
type partial struct {
	f    *os.File
	name string // after the last byte
}

// Fetch fetches a file into a folder, under a safe form of its name, with a number
// when that name exists: no file is overwritten. Until it is complete the file is called
// NAME.TASK.part. After a broken connection, also in another process, fetching the same
// file again continues there. A fetched file is removed from the server's list. Busy when
// the same task is in progress, Closed when the Client has ended, Internal when the
// folder is not writable, Invalid for a size that no file has.
func (fl *Files) Fetch(f File, dir string, o Options) (*Transfer, error) {
	if f.Size <= 0 || f.Size > MaxSize {
		return nil, im.Errorf(im.Invalid, "file of %d bytes", f.Size)
	}
	role := pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
	if f.Online {
		role = pb.ClientFileRole_CLIENT_REALTIME_RECVER
	}
	t := fl.newTransfer(f, role, o)
	dst, have, err := openPartial(f, dir)
	if err != nil {
		return nil, im.WithKind(im.Internal, "download", err)
	}
	t.dst = dst
	t.moved.Store(have)
	if err := t.begin(); err != nil {
		return nil, errors.Join(err, dst.f.Close())
	}
	return t, nil
}

// openPartial opens the received part of a file and returns its length. The last segment
// is fetched again. It may be incomplete, and its request tells the server that the file
// was fetched.
func openPartial(f File, dir string) (*partial, int64, error) {
	p := &partial{name: CleanName(f.Name)}
	var err error
	path := filepath.Join(dir, partName(f))
	if p.f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666); err != nil {
		return nil, 0, err
	}
	info, err := p.f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, p.f.Close())
	}
	have := min(info.Size(), f.Size-1) / segment * segment
	if f.Online {
		have = 0
	}
	return p, have, nil
}

// end closes the received file, and gives it its name when it is complete. It returns the
// result of the transfer.
func (p *partial) end(t *Transfer, err error) error {
	part := p.f.Name()
	switch {
	case err != nil && t.file.Online: // no other client has the rest
		if err := errors.Join(p.f.Close(), os.Remove(part)); err != nil {
			t.files.log.Warn("partial file not removed", "err", err)
		}
		return err
	case err != nil:
		return errors.Join(err, p.f.Close())
	}
	err = errors.Join(p.f.Truncate(t.file.Size), p.f.Sync(), p.f.Close())
	if err == nil {
		t.path, err = settle(part, p.name)
	}
	if err != nil || t.file.Online {
		return im.WithKind(im.Internal, "download", err)
	}
	t.files.takeOff(t.file)
	return nil
}

// pull requests segments until window of them are in flight.
func (l *link) pull() {
	t := l.t
	l.mu.Lock() // also during Send, so that requests leave in order
	defer l.mu.Unlock()
	have := t.Moved()
	until := min(t.file.Size, have+window*segment)
	for l.asked = max(l.asked, have); l.asked < until; {
		n := min(segment, t.file.Size-l.asked)
		l.seq++
		err := l.conn.Send(pb.IMFilePullDataReq_builder{
			TaskId: new(t.file.Task), UserId: new(t.files.session.UserID()),
			TransMode: mode(t.file.Online).Enum(), Offset: new(uint32(l.asked)),
			DataSize: new(uint32(n)),
		}.Build(), l.seq)
		if err != nil {
			return // the connection has ended and reports it
		}
		l.asked += n
	}
}

// taskGone is the result code for a task that the file server does not know any more.
const taskGone = uint32(pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_WITH_INVALID_TASK_ID)

// take stores a segment. An error ends the transfer.
func (l *link) take(m *pb.IMFilePullDataRsp) error {
	t := l.t
	have, offset, n := t.Moved(), int64(m.GetOffset()), int64(len(m.GetFileData()))
	switch {
	case t.dst == nil || m.GetTaskId() != t.file.Task:
		return im.Errorf(im.Malformed, "bytes of a file that was not asked for")
	case t.file.Online && m.GetResultCode() == taskGone:
		return ErrCancelled // the notice of the sender's end crossed the request
	case m.GetResultCode() != 0:
		return im.Errorf(im.Denied, "the file server does not send it (%d)", m.GetResultCode())
	case offset != have || n != min(segment, t.file.Size-have) || n == 0:
		return im.Errorf(im.Malformed, "got %d bytes at %d, %d of %d are there", n, offset, have,
			t.file.Size)
	}
	if _, err := t.dst.f.WriteAt(m.GetFileData(), offset); err != nil {
		return im.WithKind(im.Internal, "write", err)
	}
	t.carried.Add(n)
	t.moveTo(have + n)
	l.pull()
	if t.file.Online && t.Moved() == t.file.Size {
		if err := t.dst.f.Sync(); err != nil {
			return im.WithKind(im.Internal, "write", err)
		}
		l.end(nil)
	}
	return nil
}
