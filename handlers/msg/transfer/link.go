package transfer

import (
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// maxAddresses is how many addresses of a file server are told to clients.
const maxAddresses = 8

// Link is a file server as this server knows it, and the handler of the link to it.
type Link struct {
	*router.Router[*session.Link]
	peer Peer
	at   atomic.Pointer[serverAddresses] // nil: not told yet
	// confirms is set when the server understands IMFileConfirmReq and two_ids. One of the
	// first implementation does not.
	confirms atomic.Bool
}

// serverAddresses are where clients reach a file server. They are not changed.
type serverAddresses struct {
	list []*pb.IpAddr
	mark string
}

// Link makes the handler for the link to a file server. Each file server has its own.
func (h *Handler) Link() *Link {
	l := &Link{Router: router.New[*session.Link](router.Options{
		Role: "msg_file", Log: h.opt.LinkLog, Registerer: h.opt.Registerer})}
	router.Handle(l.Router, router.Public, router.Ignore[*pb.IMHeartBeat])
	// The answers to calls that had given up.
	router.Handle(l.Router, router.Public, router.Ignore[*pb.IMFileTransferRsp])
	router.Handle(l.Router, router.Public, router.Ignore[*pb.IMFileConfirmRsp])
	router.Handle(l.Router, router.Public, l.handleAddresses)
	return l
}

// Add adds a file server: peer is the link that l handles. It must be called before the
// first client connects. Without a file server, files are refused.
func (h *Handler) Add(l *Link, peer Peer) {
	l.peer = peer
	h.files.links = append(h.files.links, l)
}

// Open asks the file server where clients reach it.
func (l *Link) Open(s *session.Link) error {
	return s.Send(0, pb.IMFileServerIPReq_builder{Confirms: proto.Bool(true)}.Build())
}

// Close does nothing: the addresses stay, since files wait there.
func (*Link) Close(*session.Link, error) {}

func (l *Link) handleAddresses(_ *session.Link, _ uint16, m *pb.IMFileServerIPRsp) error {
	list := m.GetIpAddrList()
	if len(list) == 0 {
		return im.Errorf(im.Invalid, "file server without an address")
	}
	l.confirms.Store(m.GetConfirms())
	l.at.Store(&serverAddresses{list: list[:min(len(list), maxAddresses)],
		mark: im.ServerMark(list[0].GetIp(), list[0].GetPort())})
	return nil
}

// addresses returns where clients reach the server. l may be nil.
func (l *Link) addresses() []*pb.IpAddr {
	if l == nil {
		return nil
	}
	if at := l.at.Load(); at != nil {
		return at.list
	}
	return nil
}

// servers is the file servers. links is not changed once clients connect.
type servers struct {
	links []*Link
	next  atomic.Uint32
}

// inTurn returns the file servers that can be asked. Each call begins with another one.
func (f *servers) inTurn() []*Link {
	n := len(f.links)
	if n == 0 {
		return nil
	}
	first := int(f.next.Add(1)-1) % n
	var up []*Link
	for i := range n {
		if l := f.links[(first+i)%n]; l.peer.Up() && l.at.Load() != nil {
			up = append(up, l)
		}
	}
	return up
}

// of returns the file server that a transfer's id leads to; nil when there is none.
func (f *servers) of(task string) *Link {
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

// confirming returns the file servers to ask for a transfer's file: the one that its id
// leads to, or all if it leads to none.
func (f *servers) confirming(task string) []*Link {
	var list []*Link
	for _, l := range f.holders(task) {
		if l.confirms.Load() {
			list = append(list, l)
		}
	}
	return list
}

// holders returns the file servers that may have a transfer's file: the one that its id
// leads to, or all if it leads to none.
func (f *servers) holders(task string) []*Link {
	if l := f.of(task); l != nil {
		return []*Link{l}
	}
	return f.links
}

// addresses returns the addresses of all file servers, beginning with those of first.
// With nil they are in no particular order.
func (f *servers) addresses(first *Link) []*pb.IpAddr {
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
