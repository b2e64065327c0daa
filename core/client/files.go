package client

import (
	"context"
	"net"
	"strconv"
	"time"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// MaxFile is the longest file that can be sent, in bytes: sizes in the protocol have 32
// bits.
const MaxFile = 1<<32 - 1

// maxWaiting is the most waiting files accepted in a server's list, and maxFileAddrs the
// most addresses of file servers.
const (
	maxWaiting   = 10_000
	maxFileAddrs = 32
)

// File is a file that one user sends to another.
type File struct {
	Task     string // the servers' id of the transfer
	From, To uint32 // users
	Name     string // from the sender; CleanFileName makes it safe
	Size     int64  // bytes
	Online   bool   // the sender waits for the receiver; otherwise a server keeps the file
	Addrs    []string
}

// FileOffered reports that another user sends a file to this one. The owner answers with
// FetchFile or RefuseFile.
type FileOffered struct {
	File  File
	Ready bool // false: the file is still being uploaded, and another event follows
}

func (FileOffered) event() {}

// fileMode returns the transfer mode of the protocol.
func fileMode(online bool) pb.TransferFileType {
	if online {
		return pb.TransferFileType_FILE_TYPE_ONLINE
	}
	return pb.TransferFileType_FILE_TYPE_OFFLINE
}

// addrsOf returns the valid addresses in a list.
func addrsOf(list []*pb.IpAddr) []string {
	var addrs []string
	for _, a := range list[:min(len(list), maxFileAddrs)] {
		if port := a.GetPort(); tcp.ValidHost(a.GetIp()) && port > 0 && port < 1<<16 {
			addrs = append(addrs, net.JoinHostPort(a.GetIp(), strconv.FormatUint(uint64(port), 10)))
		}
	}
	return addrs
}

// fileNotify reports a file for this user. The caller holds c.mu.
func (c *Client) fileNotify(m *pb.IMFileNotify) {
	f := File{
		Task: m.GetTaskId(), From: m.GetFromUserId(), To: m.GetToUserId(), Name: m.GetFileName(),
		Size:   int64(m.GetFileSize()),
		Online: m.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE,
		Addrs:  addrsOf(m.GetIpAddrList()),
	}
	if f.To != c.self.ID || f.Task == "" {
		c.ignored.Add(1)
		return
	}
	c.emit(FileOffered{File: f, Ready: f.Online || m.GetOfflineReady() != 0})
}

// WaitingFiles returns the files that a server keeps for this user. FetchFile fetches
// them, RefuseFile refuses them.
func (c *Client) WaitingFiles(ctx context.Context) ([]File, error) {
	self := c.UserID()
	var res pb.IMFileHasOfflineRsp
	req := pb.IMFileHasOfflineReq_builder{UserId: new(self)}.Build()
	if err := c.Call(ctx, req, &res); err != nil {
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

// OfferFile asks the server for a task to send a file to another user. With online the
// file is passed directly if the other user's pc client is online; Online of the result
// tells whether it will be. SendFile then sends the file. Invalid for a size of 0 or
// above MaxFile, and for a name that is empty, contains a path, or is longer than
// im.MaxFileName. Unavailable when the server has no space or no file server.
func (c *Client) OfferFile(ctx context.Context, to uint32, name string, size int64,
	online bool) (File, error) {
	f := File{From: c.UserID(), To: to, Name: name, Size: size}
	switch {
	case size <= 0 || size > MaxFile:
		return File{}, im.Errorf(im.Invalid, "file of %d bytes, 1 to %d can be sent", size,
			int64(MaxFile))
	case CleanFileName(name) != name || im.CheckFileName(name) != nil:
		return File{}, im.Errorf(im.Invalid,
			"file name is empty, unsafe or longer than %d characters",
			im.MaxFileName)
	case to == f.From:
		return File{}, im.Errorf(im.Invalid, "file to oneself")
	}
	req := pb.IMFileReq_builder{
		FromUserId: new(f.From), ToUserId: new(to), FileName: new(name),
		FileSize: new(uint32(size)), TransMode: fileMode(online).Enum(),
	}.Build()
	var res pb.IMFileRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return File{}, err
	}
	f.Task, f.Addrs = res.GetTaskId(), addrsOf(res.GetIpAddrList())
	f.Online = res.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE
	switch {
	case res.GetResultCode() != 0:
		return File{}, im.Errorf(im.Unavailable, "the server accepts no file now (%d)",
			res.GetResultCode())
	case f.Task == "" || len(f.Addrs) == 0:
		return File{}, im.Errorf(im.Malformed, "the server's answer names no file server")
	}
	return f, nil
}

// RefuseFile refuses a file. It tells the sender that waits for the receiver, or the
// server that keeps the file.
func (c *Client) RefuseFile(ctx context.Context, f File) error {
	role := pb.ClientFileRole_CLIENT_REALTIME_RECVER
	if !f.Online {
		role = pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
		if err := c.forgetFile(ctx, f); err != nil {
			return err
		}
	}
	err := c.newTransfer(f, role, FileOptions{}).tellOnly(ctx,
		pb.ClientFileState_CLIENT_FILE_REFUSE)
	// The file is not on the list any more, and the file server deletes it after a time.
	if err != nil && !f.Online {
		c.log.Debug("file server not told of a refused file", "task", f.Task, "err", err)
		return nil
	}
	return err
}

// forgetFile asks the server to remove a file from the list of files that wait for this
// user.
func (c *Client) forgetFile(ctx context.Context, f File) error {
	return c.tellSurely(ctx, pb.IMFileDelOfflineReq_builder{
		FromUserId: new(f.From), ToUserId: new(f.To), TaskId: new(f.Task)}.Build())
}

// tellSurely sends a message that has no answer, again after each reconnect, until a
// request sent after it was answered: then the server has received the message.
func (c *Client) tellSurely(ctx context.Context, m pb.Message) error {
	for attempt := 0; ; attempt++ {
		err := c.tellServer(ctx, m)
		if err == nil || im.KindOf(err) != im.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-c.ctx.Done():
			return im.Errorf(im.Closed, "client closed")
		case <-time.After(c.backoff(attempt)):
		}
	}
}

// tellServer makes one attempt of tellSurely.
func (c *Client) tellServer(ctx context.Context, m pb.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.SyncTimeout)
	defer cancel()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return im.Errorf(im.Unavailable, "not connected")
	}
	if err := conn.Send(m, 0); err != nil {
		return err
	}
	_, err := ServerTime(ctx, conn)
	return err
}
