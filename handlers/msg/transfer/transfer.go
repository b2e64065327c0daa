// Package transfer arranges the transfers of files between clients.
//
// A file is sent from one client to another over a file server, not over the message
// server. This package finds out whether the receiver is connected, asks a file server
// for a transfer, and tells both clients its address. db_proxy keeps the list of files
// that wait.
package transfer

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/rate"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/passing"
	"teamtalk/proto/pb"
)

// Peer is a server that is asked.
type Peer interface {
	// Call sends req and calls done with the answer or an error on loop l.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m. It is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
	// Up reports whether a request would be sent now.
	Up() bool
}

// Others is the other message servers.
type Others interface {
	// Forward gives m to the route server that passes it on. It reports whether it was
	// taken.
	Forward(m pb.Message) bool
}

// Options sets up a Handler. All fields but Registerer must be set.
type Options struct {
	// Client returns what this package keeps for a session.
	Client func(*session.Client) *Client

	// Repeats reports whether a client recognises a notify that it has received before.
	// Any goroutine.
	Repeats func(*session.Client) bool

	Online  *session.Registry
	Queries *passing.Handler
	Others  Others

	Now        func() time.Time
	Log        *slog.Logger          // with the server's role
	LinkLog    *slog.Logger          // for routers of links
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Handler handles what clients say about files.
type Handler struct {
	opt     Options
	router  *router.Router[*session.Link] // of the links to file servers
	queries *passing.Handler
	first   Peer
	route   Peer
	files   servers
	handed  handedTasks
	told    told
	made    *prometheus.CounterVec
	refused *prometheus.CounterVec
	often   obs.Often
}

// New returns a handler. Connect must be called before the first client connects.
func New(opt Options) *Handler {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help}, []string{label})
	}
	h := &Handler{opt: opt, router: newRouter(&opt), queries: opt.Queries,
		made: vec("file_transfers_total",
			"Transfers of files made, by mode: online, offline.", "mode"),
		refused: vec("files_refused_total",
			"Requests about files that were refused or not passed on, by reason; unconfirmed: no "+
				"file server has the file that a client reported as uploaded.", "reason")}
	h.told.repeated = vec("file_notifies_repeated_total",
		"Repeated notifies of files that are passed on directly, by result for each PC client of "+
			"the receiver: delivered (it had not got it), known, later (it logged in later, and "+
			"could show the file twice).", "result")
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(h.made, h.refused, h.told.repeated)
	}
	return h
}

// Connect sets the peers: first keeps the list of files that wait, route answers whether
// a user is online.
func (h *Handler) Connect(first, route Peer) { h.first, h.route = first, route }

// Client is what the package keeps for one client connection. The zero value is ready.
// Loop only.
type Client struct{ files rate.Bucket }

// Bounds for the requests of one connection about files. A client that sends a folder
// asks for each file in it, and reports each as uploaded.
const (
	fileRate  = 10.0  // a second
	fileBurst = 200.0 // at once
)

// Results in IMFileRsp, as clients know them.
const (
	fileOK      = uint32(pb.FileServerError_FILE_SERVER_ERRNO_OK)
	fileRefused = uint32(pb.FileServerError_FILE_SERVER_ERRNO_CREATE_TASK_ID_ERROR)
)

// Values of offline_ready.
const (
	fileComing = 0
	fileWaits  = 1
)

// Routes registers what clients say about files.
func (h *Handler) Routes(r *router.Router[*session.Client]) {
	router.Handle(r, router.LoggedIn, h.handleFile)
	router.Handle(r, router.LoggedIn, h.handleHasOffline)
	router.Handle(r, router.LoggedIn, h.handleAddOffline)
	router.Handle(r, router.LoggedIn, h.handleDelOffline)
}

// drop counts a request that is not carried out, and returns the error.
func (h *Handler) drop(reason string) error {
	h.refused.WithLabelValues(reason).Inc()
	return im.Errorf(im.Denied, "request about a file dropped: %s", reason)
}

// may counts a request about files against the rate of its connection.
func (h *Handler) may(s *session.Client) bool {
	return h.opt.Client(s).files.Take(s.Loop().Now(), fileRate, fileBurst)
}

// transfer is a client's request to send a file, until it is answered.
type transfer struct {
	h    *Handler
	s    *session.Client
	seq  uint16
	m    *pb.IMFileReq
	mode pb.TransferFileType
	// left are the file servers to try.
	left []*Link
	done func() // ends the query
}

// handleFile asks for a transfer. It is always answered: a refusal has a result code.
func (h *Handler) handleFile(s *session.Client, seq uint16, m *pb.IMFileReq) error {
	m.SetFromUserId(s.User)
	t := &transfer{h: h, s: s, seq: seq, m: m, mode: m.GetTransMode()}
	switch {
	case !h.may(s):
		return t.refuse("rate", fileRefused)
	case im.CheckFileName(m.GetFileName()) != nil:
		return t.refuse("name", fileRefused)
	case m.GetToUserId() == 0, t.mode != pb.TransferFileType_FILE_TYPE_ONLINE &&
		t.mode != pb.TransferFileType_FILE_TYPE_OFFLINE:
		return t.refuse("invalid", fileRefused)
	}
	if t.left = h.files.inTurn(); len(t.left) == 0 {
		return t.refuse("down", fileRefused)
	}
	if err := h.queries.EnterChange(s, m, t.findPeer); err != nil {
		return t.refuse("too_many", fileRefused)
	}
	return nil
}

// findPeer finds out whether the receiver has a PC online. If not, a file that was to be
// passed on at once is kept instead.
func (t *transfer) findPeer(done func()) {
	t.done = done
	to := t.m.GetToUserId()
	if t.mode == pb.TransferFileType_FILE_TYPE_OFFLINE ||
		to != t.s.User && t.h.opt.Online.HasPC(to) {
		t.ask()
		return
	}
	if to == t.s.User || !t.h.route.Up() { // no user has two PCs
		t.mode = pb.TransferFileType_FILE_TYPE_OFFLINE
		t.ask()
		return
	}
	// Without a scope the question counts PC clients.
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(t.s.User),
		UserIdList: []uint32{to}}.Build()
	t.h.route.Call(t.s.Loop(), uint64(t.s.User), t.seq, req, func(rsp pb.Message, _ error) {
		t.mode = pb.TransferFileType_FILE_TYPE_OFFLINE // also without an answer
		if m, ok := rsp.(*pb.IMUsersStatRsp); ok && m.IsOnline(to) {
			t.mode = pb.TransferFileType_FILE_TYPE_ONLINE
		}
		t.ask()
	})
}

// ask asks the next file server. When it cannot make the transfer, because its disk is
// full or its link breaks, the one after it is asked.
func (t *transfer) ask() {
	l := t.left[0]
	t.left = t.left[1:]
	req := pb.IMFileTransferReq_builder{FromUserId: proto.Uint32(t.s.User),
		ToUserId: proto.Uint32(t.m.GetToUserId()),
		FileName: proto.String(im.CleanFileName(t.m.GetFileName())),
		FileSize: proto.Uint32(t.m.GetFileSize()), TransMode: t.mode.Enum()}.Build()
	if l.confirms.Load() {
		req.SetTwoIds(true)
	}
	l.peer.Call(t.s.Loop(), uint64(t.s.User), t.seq, req, func(rsp pb.Message, err error) {
		m, err := link.Answer[*pb.IMFileTransferRsp](rsp, err)
		code := fileRefused
		switch {
		case err != nil:
			t.h.often.Warn(t.h.opt.Log, t.h.opt.Now(), "transfer not made",
				"conn", t.s.ID(), "user", t.s.User, "err", err)
		case m.GetResultCode() == fileOK && im.ValidTaskID(m.GetTaskId()):
			t.done()
			t.made(l, m)
			return
		case m.GetResultCode() != fileOK:
			code = m.GetResultCode()
		}
		if len(t.left) > 0 {
			t.ask()
			return
		}
		t.done()
		_ = t.refuse("server", code) // counted, and logged above or by the file server
	})
}

// made tells both clients the address of the file server, and each its id of the transfer.
// Loop only.
func (t *transfer) made(l *Link, m *pb.IMFileTransferRsp) {
	h := t.h
	h.made.WithLabelValues(modeName(t.mode)).Inc()
	addresses := l.addresses()
	senders := m.GetTaskId() // a server of the first implementation makes one id
	if im.ValidTaskID(m.GetSenderTaskId()) {
		senders = m.GetSenderTaskId()
	} else if t.mode == pb.TransferFileType_FILE_TYPE_OFFLINE {
		h.handed.add(t.s.User, handedTask{to: t.m.GetToUserId(), task: senders,
			name: im.CleanFileName(t.m.GetFileName()), size: t.m.GetFileSize(),
			at: t.s.Loop().Now()})
	}
	rsp := t.answer(fileOK, senders)
	rsp.SetIpAddrList(addresses)
	h.queries.Answer(t.s, t.seq, rsp)
	h.tell(pb.IMFileNotify_builder{FromUserId: proto.Uint32(t.s.User),
		ToUserId: proto.Uint32(t.m.GetToUserId()),
		FileName: proto.String(im.CleanFileName(t.m.GetFileName())),
		FileSize: proto.Uint32(t.m.GetFileSize()), TaskId: proto.String(m.GetTaskId()),
		IpAddrList: addresses, TransMode: t.mode.Enum(),
		OfflineReady: proto.Uint32(fileComing)}.Build())
}

func modeName(mode pb.TransferFileType) string {
	if mode == pb.TransferFileType_FILE_TYPE_ONLINE {
		return "online"
	}
	return "offline"
}

func (t *transfer) answer(code uint32, task string) *pb.IMFileRsp {
	return pb.IMFileRsp_builder{ResultCode: proto.Uint32(code), FromUserId: proto.Uint32(t.s.User),
		ToUserId: proto.Uint32(t.m.GetToUserId()), FileName: proto.String(t.m.GetFileName()),
		TaskId: proto.String(task), TransMode: t.mode.Enum()}.Build()
}

// refuse answers that there is no transfer. Loop only.
func (t *transfer) refuse(reason string, code uint32) error {
	t.h.queries.Answer(t.s, t.seq, t.answer(code, ""))
	return t.h.drop(reason)
}

// tell tells the receiver's PC clients of a file, here and elsewhere.
func (h *Handler) tell(n *pb.IMFileNotify) {
	h.tellPCs(n, n.GetToUserId())
	h.opt.Others.Forward(n)
}

// HandleRouted tells the receiver's PC clients here of a file from another message
// server. That may be one of the first implementation, which does not clean names. A notify
// that a file server repeats goes to clients that did not get it.
func (h *Handler) HandleRouted(_ *session.Link, _ uint16, m *pb.IMFileNotify) error {
	m.SetFileName(im.CleanFileName(m.GetFileName()))
	h.tellPCs(m, m.GetToUserId())
	return nil
}
