package msg

import (
	"sync/atomic"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// maxFileAddresses is how many addresses of a file server are told to clients.
const maxFileAddresses = 8

// FileLink is a file server as this server knows it, and the handler of the link to it.
type FileLink struct {
	*router.Router
	h    *Server
	peer Peer
	at   atomic.Pointer[fileAddresses] // nil: not told yet
}

// fileAddresses are where clients reach a file server. They are not changed.
type fileAddresses struct {
	list []*pb.IpAddr
	mark string
}

// FileLink makes the handler for the link to a file server. Each file server has its own.
func (h *Server) FileLink() *FileLink {
	l := &FileLink{Router: router.New(router.Options{Role: "msg_file", Log: h.opt.Log, Registerer: h.opt.Registerer}), h: h}
	router.Handle(l.Router, router.Public, ignore[*pb.IMHeartBeat])
	router.Handle(l.Router, router.Public, ignore[*pb.IMFileTransferRsp]) // came after its call had given up
	router.Handle(l.Router, router.Public, l.handleAddresses)
	return l
}

// ConnectFile adds a file server, before the first client comes: peer is the link that l handles. Without any, files are refused.
func (h *Server) ConnectFile(l *FileLink, peer Peer) {
	l.peer = peer
	h.files.links = append(h.files.links, l)
}

// Open asks the file server where clients reach it.
func (l *FileLink) Open(s *session.Session) error { return s.Push(0, &pb.IMFileServerIPReq{}) }

// Close has nothing to do: the addresses stay, they are where the files are that wait.
func (*FileLink) Close(*session.Session, error) {}

func (l *FileLink) handleAddresses(_ *session.Session, _ uint16, m *pb.IMFileServerIPRsp) error {
	list := m.GetIpAddrList()
	if len(list) == 0 {
		return im.Errorf(im.Invalid, "file server without an address")
	}
	l.at.Store(&fileAddresses{list: list[:min(len(list), maxFileAddresses)], mark: im.ServerMark(list[0].GetIp(), list[0].GetPort())})
	return nil
}

// addresses are where clients reach the server; nil is nobody.
func (l *FileLink) addresses() []*pb.IpAddr {
	if l == nil {
		return nil
	}
	if at := l.at.Load(); at != nil {
		return at.list
	}
	return nil
}

// fileServers are all of them. links is not changed once clients come.
type fileServers struct {
	links []*FileLink
	next  atomic.Uint32
}

// inTurn returns the file servers that can be asked, each time beginning with another.
func (f *fileServers) inTurn() []*FileLink {
	n := len(f.links)
	if n == 0 {
		return nil
	}
	first := int(f.next.Add(1)-1) % n
	var up []*FileLink
	for i := range n {
		if l := f.links[(first+i)%n]; l.peer.Up() && l.at.Load() != nil {
			up = append(up, l)
		}
	}
	return up
}

// of returns the file server that a transfer's id leads to; nil when there is none.
func (f *fileServers) of(task string) *FileLink {
	mark := im.TaskMark(task)
	if mark == "" {
		return nil
	}
	for _, l := range f.links {
		if at := l.at.Load(); at != nil && at.mark == mark {
			return l
		}
	}
	return nil
}

// holders returns the file servers that may have a transfer's file: the one that its id leads to, or all, if it leads to none.
func (f *fileServers) holders(task string) []*FileLink {
	if l := f.of(task); l != nil {
		return []*FileLink{l}
	}
	return f.links
}

// addresses are those of all file servers, those of first first. With nil they are in no particular order.
func (f *fileServers) addresses(first *FileLink) []*pb.IpAddr {
	if len(f.links) == 1 {
		return f.links[0].addresses()
	}
	list := append([]*pb.IpAddr(nil), first.addresses()...)
	for _, l := range f.links {
		if l != first {
			list = append(list, l.addresses()...)
		}
	}
	return list
}
