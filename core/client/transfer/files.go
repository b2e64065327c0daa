// Package transfer sends files to other users and fetches files from them. A message server
// gives a transfer its task and the addresses of file servers. The bytes pass over a
// connection of their own, directly to the other user or to a server that keeps the file.
package transfer

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// MaxSize is the longest file that can be sent, in bytes: sizes in the protocol have 32
// bits.
const MaxSize = 1<<32 - 1

// maxWaiting is the most waiting files accepted in a server's list, and maxAddrs the
// most addresses of file servers.
const (
	maxWaiting = 10_000
	maxAddrs   = 32
)

// maxFetched is the most fetched files that are remembered because no server took them off the
// list. It is the longest list of our servers.
const maxFetched = im.MaxOfflineFiles

// File is a file that one user sends to another.
type File struct {
	Task     string // the servers' id of the transfer
	From, To uint32 // users
	Name     string // from the sender; CleanName makes it safe
	Size     int64  // bytes
	Online   bool   // the sender waits for the receiver; otherwise a server keeps the file
	Addrs    []string
}

// Session is the logged-in user of the transfers, with its connection to a message server.
type Session interface {
	UserID() uint32
	// Call sends req and decodes the answer into resp.
	Call(ctx context.Context, req, resp pb.Message) error
	// Present returns the logged-in connection, nil without one, and a channel that the
	// next login closes.
	Present() (*tcp.Conn, <-chan struct{})
	// Ended reports whether the user will not be logged in again.
	Ended() bool
	// Backoff returns the pause before attempt at something that failed before.
	Backoff(attempt int) time.Duration
}

// Config configures Files. All values are set.
type Config struct {
	ConnectTimeout time.Duration // to connect to a file server, with the login
	AnswerTimeout  time.Duration // for an answer of a message server
	Heartbeat      time.Duration // see tcp.Options
	Logger         *slog.Logger
	// Dial opens a connection, as net.Dialer does.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Files sends and fetches the files of one user. Any goroutine.
type Files struct {
	ctx     context.Context // ends with the session
	session Session
	config  Config
	log     *slog.Logger

	mu      sync.Mutex
	running map[string]*Transfer // by task
	// fetched are the tasks of files that were fetched, and that may be on the server's list
	// still. At most maxFetched.
	fetched map[string]struct{}
}

// New returns the Files of a session. All transfers end with ctx, which ends with the
// session.
func New(ctx context.Context, s Session, c Config) *Files {
	return &Files{ctx: ctx, session: s, config: c, log: c.Logger.With("role", "client"),
		running: make(map[string]*Transfer), fetched: make(map[string]struct{})}
}

// mode returns the transfer mode of the protocol.
func mode(online bool) pb.TransferFileType {
	if online {
		return pb.TransferFileType_FILE_TYPE_ONLINE
	}
	return pb.TransferFileType_FILE_TYPE_OFFLINE
}

// addrsOf returns the valid addresses in a list.
func addrsOf(list []*pb.IpAddr) []string {
	var addrs []string
	for _, a := range list[:min(len(list), maxAddrs)] {
		if port := a.GetPort(); tcp.ValidHost(a.GetIp()) && port > 0 && port < 1<<16 {
			addrs = append(addrs, net.JoinHostPort(a.GetIp(), strconv.FormatUint(uint64(port), 10)))
		}
	}
	return addrs
}

// Notified returns the file of a server's notice, and whether it can be fetched: a file that
// is still being uploaded cannot, and another notice follows.
func Notified(m *pb.IMFileNotify) (f File, ready bool) {
	f = File{
		Task: m.GetTaskId(), From: m.GetFromUserId(), To: m.GetToUserId(), Name: m.GetFileName(),
		Size:   int64(m.GetFileSize()),
		Online: m.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE,
		Addrs:  addrsOf(m.GetIpAddrList()),
	}
	return f, f.Online || m.GetOfflineReady() != 0
}

// Waiting returns the files that a server keeps for this user. Fetch fetches
// them, Refuse refuses them. A file that was fetched, and that the server still lists because
// it lost the request to take it off, is left out, and the server is asked again.
func (fl *Files) Waiting(ctx context.Context) ([]File, error) {
	list, err := fl.listed(ctx)
	waiting := list[:0]
	for _, f := range list {
		if !fl.wasFetched(f.Task) {
			waiting = append(waiting, f)
		} else if conn, _ := fl.session.Present(); conn != nil {
			_ = conn.Send(removal(f), 0) // the next call looks whether it was carried out
		}
	}
	return waiting, err
}

// wasFetched reports whether a file was fetched.
func (fl *Files) wasFetched(task string) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	_, was := fl.fetched[task]
	return was
}

// removal is the request that takes a file off the list.
func removal(f File) pb.Message {
	return pb.IMFileDelOfflineReq_builder{
		FromUserId: new(f.From), ToUserId: new(f.To), TaskId: new(f.Task)}.Build()
}

// takeOff has a fetched file taken off the list. When no server confirms it in time, Waiting
// continues.
func (fl *Files) takeOff(f File) {
	fl.mu.Lock()
	if len(fl.fetched) < maxFetched {
		fl.fetched[f.Task] = struct{}{}
	}
	fl.mu.Unlock()
	ctx, cancel := context.WithTimeout(fl.ctx, forgetAnswers*fl.config.AnswerTimeout)
	defer cancel()
	if err := fl.forget(ctx, f); err != nil {
		fl.log.Warn("fetched file not taken off the list", "task", f.Task, "err", err)
		return
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	delete(fl.fetched, f.Task)
}

// listed returns the files on the server's list.
func (fl *Files) listed(ctx context.Context) ([]File, error) {
	self := fl.session.UserID()
	var res pb.IMFileHasOfflineRsp
	req := pb.IMFileHasOfflineReq_builder{UserId: new(self)}.Build()
	if err := fl.session.Call(ctx, req, &res); err != nil {
		return nil, err
	}
	addrs := addrsOf(res.GetIpAddrList())
	var files []File
	for _, f := range res.GetOfflineFileList()[:min(len(res.GetOfflineFileList()), maxWaiting)] {
		files = append(files, File{
			Task: f.GetTaskId(), From: f.GetFromUserId(), To: self, Name: f.GetFileName(),
			Size: int64(f.GetFileSize()), Addrs: addrs,
		})
	}
	return files, nil
}

// Offer asks the server for a task to send a file to another user. With online the
// file is passed directly if the other user's pc client is online; Online of the result
// tells whether it will be. Send then sends the file. Invalid for a size of 0 or
// above MaxSize, and for a name that is empty, contains a path, or is longer than
// im.MaxFileName. Unavailable when the server has no space or no file server.
func (fl *Files) Offer(ctx context.Context, to uint32, name string, size int64,
	online bool) (File, error) {
	f := File{From: fl.session.UserID(), To: to, Name: name, Size: size}
	switch {
	case size <= 0 || size > MaxSize:
		return File{}, im.Errorf(im.Invalid, "file of %d bytes, 1 to %d can be sent", size,
			int64(MaxSize))
	case CleanName(name) != name || im.CheckFileName(name) != nil:
		return File{}, im.Errorf(im.Invalid,
			"file name is empty, unsafe or longer than %d characters",
			im.MaxFileName)
	case to == f.From:
		return File{}, im.Errorf(im.Invalid, "file to oneself")
	}
	req := pb.IMFileReq_builder{
		FromUserId: new(f.From), ToUserId: new(to), FileName: new(name),
		FileSize: new(uint32(size)), TransMode: mode(online).Enum(),
	}.Build()
	var res pb.IMFileRsp
	if err := fl.session.Call(ctx, req, &res); err != nil {
		return File{}, err
	}
	f.Task, f.Addrs = res.GetTaskId(), addrsOf(res.GetIpAddrList())
	f.Online = res.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE
	switch {
	case res.GetResultCode() == im.FileNoRoom:
		return File{}, im.Errorf(im.Unavailable, "the disk of the file server is nearly full: it "+
			"keeps no more files for now")
	case res.GetResultCode() == im.FileQuota:
		return File{}, im.Errorf(im.Unavailable, "your files that wait for their receivers leave "+
			"no room for another one")
	case res.GetResultCode() != 0:
		return File{}, im.Errorf(im.Unavailable, "the server accepts no file now (%d)",
			res.GetResultCode())
	case f.Task == "" || len(f.Addrs) == 0:
		return File{}, im.Errorf(im.Malformed, "the server's answer names no file server")
	}
	return f, nil
}

// Refuse refuses a file. It tells the sender that waits for the receiver, or the
// server that keeps the file.
func (fl *Files) Refuse(ctx context.Context, f File) error {
	role := pb.ClientFileRole_CLIENT_REALTIME_RECVER
	if !f.Online {
		role = pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
		if err := fl.forget(ctx, f); err != nil {
			return err
		}
	}
	err := fl.newTransfer(f, role, Options{}).tellOnly(ctx,
		pb.ClientFileState_CLIENT_FILE_REFUSE)
	// The file is not on the list any more, and the file server deletes it after a time.
	if err != nil && !f.Online {
		fl.log.Debug("file server not told of a refused file", "task", f.Task, "err", err)
		return nil
	}
	return err
}

// forget asks the server to remove a file from the list of files that wait for this user,
// again until the list is without it: a server may be killed with the request.
func (fl *Files) forget(ctx context.Context, f File) error {
	return fl.again(ctx, func() error {
		if err := fl.tellServer(ctx, removal(f)); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, fl.config.AnswerTimeout)
		defer cancel()
		list, err := fl.listed(ctx)
		if slices.ContainsFunc(list, func(o File) bool {
			return o.Task == f.Task && o.From == f.From
		}) {
			return im.Errorf(im.Unavailable, "the file is on the list still")
		}
		return err
	})
}

// tellSurely sends a message that has no answer, again after each reconnect, until a
// request sent after it was answered: then the server has received the message.
func (fl *Files) tellSurely(ctx context.Context, m pb.Message) error {
	return fl.again(ctx, func() error { return fl.tellServer(ctx, m) })
}

// again calls try until its error is not Unavailable, or ctx ends.
func (fl *Files) again(ctx context.Context, try func() error) error {
	for attempt := 0; ; attempt++ {
		err := try()
		if err == nil || im.KindOf(err) != im.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-fl.ctx.Done():
			return im.Errorf(im.Closed, "client closed")
		case <-time.After(fl.session.Backoff(attempt)):
		}
	}
}

// tellServer makes one attempt of tellSurely.
func (fl *Files) tellServer(ctx context.Context, m pb.Message) error {
	ctx, cancel := context.WithTimeout(ctx, fl.config.AnswerTimeout)
	defer cancel()
	conn, _ := fl.session.Present()
	if conn == nil {
		return im.Errorf(im.Unavailable, "not connected")
	}
	if err := conn.Send(m, 0); err != nil {
		return err
	}
	return conn.Call(ctx, &pb.IMClientTimeReq{}, &pb.IMClientTimeRsp{})
}
