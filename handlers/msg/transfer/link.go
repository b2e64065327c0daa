package transfer

import (
	"slices"
	"sync"
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

// newRouter returns the table of what file servers send. It is one for all of them, with one set
// of metrics. The Data of a session.Link is its Link.
func newRouter(opt *Options) *router.Router[*session.Link] {
	r := router.New[*session.Link](router.Options{
		Role: "msg_file", Log: opt.LinkLog, Registerer: opt.Registerer})
	router.Handle(r, router.Public, router.Ignore[*pb.IMHeartBeat])
	// The answers to calls that had given up.
	router.Handle(r, router.Public, router.Ignore[*pb.IMFileTransferRsp])
	router.Handle(r, router.Public, router.Ignore[*pb.IMFileConfirmRsp])
	router.Handle(r, router.Public, handleAddresses)
	return r
}

// Link makes the handler for the link to a file server. Each file server has its own.
func (h *Handler) Link() *Link { return &Link{Router: h.router} }

// Add adds a file server: peer is the link that l handles. Without a file server, files are
// refused. Any goroutine.
func (h *Handler) Add(l *Link, peer Peer) {
	l.peer = peer
	h.files.add(l)
}

// Remove removes a file server that has left: no transfer is made there any more. Clients with
// files there are told its addresses all the same, since it may only be restarting: at another
// server they would not find them. Answers that are due still count. Any goroutine.
func (h *Handler) Remove(l *Link) { h.files.remove(l) }

// Open asks the file server where clients reach it.
func (l *Link) Open(s *session.Link) error {
	s.Data = l
	return s.Send(0, pb.IMFileServerIPReq_builder{Confirms: proto.Bool(true)}.Build())
}

// Close does nothing: the addresses stay, since files wait there.
func (*Link) Close(*session.Link, error) {}

func handleAddresses(s *session.Link, _ uint16, m *pb.IMFileServerIPRsp) error {
	l := s.Data.(*Link)
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

// servers is the file servers. The zero value has none. Any goroutine.
type servers struct {
	mu   sync.Mutex // held while known changes
	now  atomic.Pointer[known]
	next atomic.Uint32
}

// known is the file servers at a time. It is never changed, only replaced.
type known struct {
	links []*Link
	// left are those that have left, the last one first: at most maxLeft.
	left []*Link
}

// maxLeft bounds the file servers that are remembered after they have left.
const maxLeft = 64

// present returns the present file servers.
func (f *servers) present() *known {
	if k := f.now.Load(); k != nil {
		return k
	}
	return &known{}
}

func (f *servers) add(l *Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.present()
	f.now.Store(&known{links: append(slices.Clip(k.links), l), left: k.left})
}

func (f *servers) remove(l *Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.present()
	links := slices.DeleteFunc(slices.Clone(k.links), func(o *Link) bool { return o == l })
	left := k.left
	if at := l.at.Load(); at != nil {
		left = append([]*Link{l}, slices.DeleteFunc(slices.Clone(left), func(o *Link) bool {
			return o.at.Load().mark == at.mark
		})...)
		left = left[:min(len(left), maxLeft)]
	}
	f.now.Store(&known{links: links, left: left})
}

// inTurn returns the file servers that can be asked. Each call begins with another one.
func (f *servers) inTurn() []*Link {
	links := f.present().links
	n := len(links)
	if n == 0 {
		return nil
	}
	first := int(f.next.Add(1)-1) % n
	var up []*Link
	for i := range n {
		if l := links[(first+i)%n]; l.peer.Up() && l.at.Load() != nil {
			up = append(up, l)
		}
	}
	return up
}

// of returns the file server that a transfer's id leads to, also one that has left; nil when
// there is none.
func (f *servers) of(task string) *Link {
	mark := im.TaskMark(task)
	if mark == "" {
		return nil
	}
	k := f.present()
	for _, list := range [][]*Link{k.links, k.left} {
		for _, l := range list {
			if at := l.at.Load(); at != nil && at.mark == mark {
				return l
			}
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
	return f.present().links
}

// addresses returns the addresses of all file servers, beginning with those of first.
// With nil they are in no particular order.
func (f *servers) addresses(first *Link) []*pb.IpAddr {
	links := f.present().links
	if len(links) == 1 && (first == nil || first == links[0]) {
		return links[0].addresses()
	}
	list := append([]*pb.IpAddr(nil), first.addresses()...)
	for _, l := range links {
		if l != first {
			list = append(list, l.addresses()...)
		}
	}
	return list
}
