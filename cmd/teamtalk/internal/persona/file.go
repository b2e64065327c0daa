package persona

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// segment is how many bytes of a file a client asks for at once.
const segment = 32 << 10

// files sends and fetches files.
type files struct {
	*device
	notices []*pb.IMFileNotify
}

// Notices returns the files that the client was told of.
func (f *files) Notices() []*pb.IMFileNotify {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notices)
}

// announce asks for a transfer, and returns the answer.
func (f *files) announce(ctx context.Context, to uint32, name string, size int,
	mode pb.TransferFileType) (*pb.IMFileRsp, error) {
	m, err := f.Ask(ctx, pb.IMFileReq_builder{FromUserId: new(f.Self()), ToUserId: &to,
		FileName: &name, FileSize: new(uint32(size)), TransMode: &mode}.Build(), pb.CmdFileRsp)
	if err != nil {
		return nil, err
	}
	rsp := m.(*pb.IMFileRsp)
	if rsp.GetResultCode() != 0 || len(rsp.GetIpAddrList()) == 0 {
		return nil, fmt.Errorf("persona: file refused: code %d", rsp.GetResultCode())
	}
	return rsp, nil
}

// ErrPeerAway is the error of a direct file whose receiver has no pc online: the server would keep
// the file.
var ErrPeerAway = errors.New("persona: the receiver takes no direct file")

// PassFile passes a file on to a user that is online, and waits until the user has it. The error
// names the state of the transfer when the user refuses it.
func (f *files) PassFile(ctx context.Context, to uint32, name string, data []byte) error {
	rsp, err := f.announce(ctx, to, name, len(data), pb.TransferFileType_FILE_TYPE_ONLINE)
	switch {
	case err != nil:
		return err
	case rsp.GetTransMode() != pb.TransferFileType_FILE_TYPE_ONLINE:
		return ErrPeerAway
	}
	t, err := f.transfer(ctx, rsp.GetTaskId(), rsp.GetIpAddrList()[0],
		pb.ClientFileRole_CLIENT_REALTIME_SENDER)
	if err != nil {
		return err
	}
	defer t.close()
	return t.upload(data)
}

// SendFile uploads a file for a user that may be offline.
func (f *files) SendFile(ctx context.Context, to uint32, name string, data []byte) error {
	self, size := f.Self(), uint32(len(data))
	rsp, err := f.announce(ctx, to, name, len(data), pb.TransferFileType_FILE_TYPE_OFFLINE)
	if err != nil {
		return err
	}
	t, err := f.transfer(ctx, rsp.GetTaskId(), rsp.GetIpAddrList()[0],
		pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.upload(data); err != nil {
		return err
	}
	f.Tell(pb.IMFileAddOfflineReq_builder{FromUserId: &self, ToUserId: &to,
		TaskId: new(rsp.GetTaskId()), FileName: &name, FileSize: &size}.Build())
	return nil
}

// FetchFile downloads a file that waits, and takes it off the list.
func (f *files) FetchFile(ctx context.Context, n *pb.IMFileNotify) ([]byte, error) {
	if len(n.GetIpAddrList()) == 0 {
		return nil, fmt.Errorf("persona: file %s is nowhere", n.GetTaskId())
	}
	t, err := f.transfer(ctx, n.GetTaskId(), n.GetIpAddrList()[0],
		pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD)
	if err != nil {
		return nil, err
	}
	defer t.close()
	data, err := t.download(int(n.GetFileSize()))
	if err != nil {
		return nil, err
	}
	f.Tell(pb.IMFileDelOfflineReq_builder{FromUserId: new(n.GetFromUserId()),
		ToUserId: new(f.Self()), TaskId: new(n.GetTaskId())}.Build())
	return data, nil
}

// transfer is a connection to a file server.
type transfer struct {
	net.Conn
	in   *bufio.Reader
	stop func() bool
	task string
	user uint32
	seq  uint16
}

// transfer connects and logs in to a task. The end of ctx ends the connection.
func (f *files) transfer(ctx context.Context, task string, at *pb.IpAddr,
	role pb.ClientFileRole) (*transfer, error) {
	d := net.Dialer{Timeout: dialTimeout}
	addr := net.JoinHostPort(at.GetIp(), strconv.Itoa(int(at.GetPort())))
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	t := &transfer{Conn: nc, in: bufio.NewReader(nc), task: task, user: f.Self(),
		stop: context.AfterFunc(ctx, func() { nc.Close() })}
	rsp := &pb.IMFileLoginRsp{}
	err = t.say(pb.IMFileLoginReq_builder{UserId: &t.user, TaskId: &task,
		FileRole: &role}.Build())
	if err == nil {
		err = t.hear(rsp)
	}
	if err == nil && rsp.GetResultCode() != 0 {
		err = fmt.Errorf("persona: file server refuses with code %d", rsp.GetResultCode())
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *transfer) close() {
	t.stop()
	t.Close()
}

func (t *transfer) say(m pb.Message) error {
	t.seq++
	b, err := pdu.Append(nil, t.seq, m)
	if err != nil {
		return err
	}
	_ = t.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = t.Write(b)
	return err
}

// next returns the next frame that is no heartbeat.
func (t *transfer) next() (pb.Message, error) {
	for {
		h, body, err := readFrame(t.in)
		if err != nil {
			return nil, fmt.Errorf("persona: file server: %w", err)
		}
		if h.Command != pb.CmdHeartBeat {
			return pdu.Decode(h.Command, body)
		}
	}
}

// hear reads the next frame into m.
func (t *transfer) hear(m pb.Message) error {
	got, err := t.next()
	if err != nil {
		return err
	}
	if got.Command() != m.Command() {
		return fmt.Errorf("persona: file server sent %s, want %s", got.Command(), m.Command())
	}
	b, err := got.AppendBody(nil)
	if err != nil {
		return err
	}
	return m.ParseBody(b)
}

// upload answers the server's requests until it has everything.
func (t *transfer) upload(data []byte) error {
	for {
		m, err := t.next()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pb.IMFilePullDataReq:
			begin, n := int(m.GetOffset()), int(m.GetDataSize())
			if begin+n > len(data) {
				return fmt.Errorf("persona: asked for %d bytes at %d of %d", n, begin, len(data))
			}
			err = t.say(pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)), TaskId: &t.task,
				UserId: &t.user, Offset: new(uint32(begin)),
				FileData: data[begin : begin+n]}.Build())
			if err != nil {
				return err
			}
		case *pb.IMFileState:
			switch m.GetState() {
			case pb.ClientFileState_CLIENT_FILE_PEER_READY: // of a direct file
				continue
			case pb.ClientFileState_CLIENT_FILE_DONE:
				return nil
			}
			return fmt.Errorf("persona: upload ended with %v", m.GetState())
		}
	}
}

// download asks for segment after segment until the server says that it was the last.
func (t *transfer) download(size int) ([]byte, error) {
	var data []byte
	for len(data) < size {
		err := t.say(pb.IMFilePullDataReq_builder{TaskId: &t.task, UserId: &t.user,
			TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
			Offset:    new(uint32(len(data))),
			DataSize:  new(uint32(min(segment, size-len(data))))}.Build())
		if err != nil {
			return nil, err
		}
		rsp := &pb.IMFilePullDataRsp{}
		if err := t.hear(rsp); err != nil {
			return nil, err
		}
		if rsp.GetResultCode() != 0 && int(rsp.GetResultCode()) !=
			int(pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_FINISHED) ||
			len(rsp.GetFileData()) == 0 {
			return nil, fmt.Errorf("persona: segment refused: code %d", rsp.GetResultCode())
		}
		data = append(data, rsp.GetFileData()...)
	}
	done := &pb.IMFileState{}
	return data, t.hear(done)
}
