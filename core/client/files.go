package client

import (
	"context"
	"net"
	"strconv"
	"time"
	"unicode/utf8"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// MaxFile is the longest file that can be sent, in bytes: the protocol's sizes have 32 bits.
const MaxFile = 1<<32 - 1

// maxFileName is the longest name of a file that is sent, in characters, as servers keep it.
const maxFileName = 255

// maxWaiting is how many waiting files are taken from a server's list, and maxFileAddrs how many addresses of file servers.
const (
	maxWaiting   = 10_000
	maxFileAddrs = 32
)

// File is a file that one user sends to another.
type File struct {
	Task     string // by which servers know it
	From, To uint32 // users
	Name     string // as the sender says; CleanFileName makes it safe to use
	Size     int64  // bytes
	Online   bool   // the sender waits for the receiver to fetch it now; else a server keeps it until then
	Addrs    []string
}

// FileOffered says that another user sends a file to this one. FetchFile and RefuseFile answer it.
type FileOffered struct {
	File  File
	Ready bool // false: the sender is still bringing it to the server, and says again when it is there
}

func (FileOffered) event() {}

// fileMode is a mode in the protocol's terms.
func fileMode(online bool) pb.TransferFileType {
	if online {
		return pb.TransferFileType_FILE_TYPE_ONLINE
	}
	return pb.TransferFileType_FILE_TYPE_OFFLINE
}

// addrsOf are the addresses in a list, without those that are none.
func addrsOf(list []*pb.IpAddr) []string {
	var addrs []string
	for _, a := range list[:min(len(list), maxFileAddrs)] {
		if port := a.GetPort(); goodHost(a.GetIp()) && port > 0 && port < 1<<16 {
			addrs = append(addrs, net.JoinHostPort(a.GetIp(), strconv.FormatUint(uint64(port), 10)))
		}
	}
	return addrs
}

// fileNotify takes the news of a file; c.mu is held.
func (c *Client) fileNotify(m *pb.IMFileNotify) {
	f := File{
		Task: m.GetTaskId(), From: m.GetFromUserId(), To: m.GetToUserId(), Name: m.GetFileName(), Size: int64(m.GetFileSize()),
		Online: m.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE, Addrs: addrsOf(m.GetIpAddrList()),
	}
	if f.To != c.self.ID || f.Task == "" {
		c.ignored.Add(1)
		return
	}
	c.emit(FileOffered{File: f, Ready: f.Online || m.GetOfflineReady() != 0})
}

// WaitingFiles returns the files that a server keeps for this user. They may be fetched, or refused.
func (c *Client) WaitingFiles(ctx context.Context) ([]File, error) {
	self := c.UserID()
	var res pb.IMFileHasOfflineRsp
	if err := c.Call(ctx, pb.IMFileHasOfflineReq_builder{UserId: new(self)}.Build(), &res); err != nil {
		return nil, err
	}
	addrs := addrsOf(res.GetIpAddrList())
	var files []File
	for _, f := range res.GetOfflineFileList()[:min(len(res.GetOfflineFileList()), maxWaiting)] {
		files = append(files, File{
			Task: f.GetTaskId(), From: f.GetFromUserId(), To: self, Name: f.GetFileName(), Size: int64(f.GetFileSize()), Addrs: addrs,
		})
	}
	return files, nil
}

// OfferFile asks the server to have a file sent to another user. With online it is passed on directly if the other's pc client is there; the
// answer's Online says whether it will be. SendFile, or ResumeFile, does the rest. Invalid for a size that is 0 or above MaxFile, and for a name that is empty, has
// a path in it, or is longer than 255 characters; Unavailable when the server has no room for files, or no file server.
func (c *Client) OfferFile(ctx context.Context, to uint32, name string, size int64, online bool) (File, error) {
	f := File{From: c.UserID(), To: to, Name: name, Size: size}
	switch {
	case size <= 0 || size > MaxFile:
		return File{}, im.Errorf(im.Invalid, "file of %d bytes, 1 to %d can be sent", size, int64(MaxFile))
	case CleanFileName(name) != name || utf8.RuneCountInString(name) > maxFileName:
		return File{}, im.Errorf(im.Invalid, "not a file's name")
	case to == f.From:
		return File{}, im.Errorf(im.Invalid, "file to oneself")
	}
	req := pb.IMFileReq_builder{
		FromUserId: new(f.From), ToUserId: new(to), FileName: new(name), FileSize: new(uint32(size)), TransMode: fileMode(online).Enum(),
	}.Build()
	var res pb.IMFileRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return File{}, err
	}
	f.Task, f.Addrs, f.Online = res.GetTaskId(), addrsOf(res.GetIpAddrList()), res.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE
	switch {
	case res.GetResultCode() != 0:
		return File{}, im.Errorf(im.Unavailable, "the server takes no file just now (%d)", res.GetResultCode())
	case f.Task == "" || len(f.Addrs) == 0:
		return File{}, im.Errorf(im.Malformed, "the server's answer names no file server")
	}
	return f, nil
}

// RefuseFile tells that this user does not want a file: the sender who waits for it to be fetched, or the server that keeps it.
func (c *Client) RefuseFile(ctx context.Context, f File) error {
	role := pb.ClientFileRole_CLIENT_REALTIME_RECVER
	if !f.Online {
		role = pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
		if err := c.forgetFile(ctx, f); err != nil {
			return err
		}
	}
	err := c.newTransfer(f, role, FileOptions{}).tellOnly(ctx, pb.ClientFileState_CLIENT_FILE_REFUSE)
	if err != nil && !f.Online { // it is off the list; the file server drops it in time
		c.log.Debug("file server not told of a refused file", "task", f.Task, "err", err)
		return nil
	}
	return err
}

// forgetFile has the server take a file off the list of those that wait for this user.
func (c *Client) forgetFile(ctx context.Context, f File) error {
	return c.tellSurely(ctx, pb.IMFileDelOfflineReq_builder{FromUserId: new(f.From), ToUserId: new(f.To), TaskId: new(f.Task)}.Build())
}

// tellSurely sends what has no answer, again after each reconnect, until a question behind it was answered: then the server has had it.
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
