package msg

import (
	"teamtalk/core/pdu"
	"teamtalk/core/pusher"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/peers"
	"teamtalk/handlers/msg/transfer"
	"teamtalk/proto/pb"
)

// linkRouter returns the router of links of a kind.
func (h *Server) linkRouter(role string) *router.Router[*session.Link] {
	return router.New[*session.Link](router.Options{
		Role: role, Log: h.opt.Log, Registerer: h.opt.Registerer})
}

// RouteLink returns the handler for links to route servers. It introduces this server
// with all its users, and takes what route servers pass on from other message servers.
func (h *Server) RouteLink() session.LinkHandler {
	r := h.linkRouter("msg_route")
	router.Handle(r, router.Public, h.conversation.HandleRouted)
	router.Handle(r, router.Public, h.conversation.Receipts.HandleRoutedAck)
	router.Handle(r, router.Public, h.conversation.Reads.HandleRoutedRead)
	router.Handle(r, router.Public, h.groups.HandleRoutedChange)
	router.Handle(r, router.Public, h.admission.HandleServerKick)
	router.Handle(r, router.Public, h.presence.HandlePCLoginStatus)
	router.Handle(r, router.Public, h.handleUserStat)
	router.Handle(r, router.Public, h.presence.HandleSignInfoChanged)
	router.Handle(r, router.Public, h.presence.HandleAvatarChanged)
	router.Handle(r, router.Public, h.handleUserChanges)
	router.Handle(r, router.Public, h.passing.HandleRoutedRemoval)
	router.Handle(r, router.Public, h.passing.HandleRoutedP2P)
	router.Handle(r, router.Public, h.transfer.HandleRouted)
	return connectedLink{h.peers.RouteEnd(r), h.connected}
}

// handleUserStat takes the news that a user's PC came or left.
func (h *Server) handleUserStat(l *session.Link, seq uint16, m *pb.IMUserStatNotify) error {
	st := m.GetUserStat()
	if st.GetStatus() == pb.UserStatType_USER_STATUS_OFFLINE {
		h.conversation.Receipts.PCLeft(st.GetUserId())
	}
	return h.presence.HandleUserStat(l, seq, m)
}

// handleUserChanges takes the news of a window, of another message server without route servers.
func (h *Server) handleUserChanges(l *session.Link, seq uint16, m *pb.IMUserChangesNotify) error {
	for _, c := range m.GetChanges() {
		if c.HasStatus() && c.GetStatus() == pb.UserStatType_USER_STATUS_OFFLINE {
			h.conversation.Receipts.PCLeft(c.GetUserId())
		}
	}
	return h.presence.HandleUserChanges(l, seq, m)
}

// connectedLink handles frames after Connect only. The link to a route server opens before
// the message server has its db_proxies, and the route server sends at once.
type connectedLink struct {
	session.LinkHandler
	connected <-chan struct{} // closed by Connect
}

// Frame waits for Connect and handles a frame.
func (c connectedLink) Frame(l *session.Link, h pdu.Header, body []byte) {
	<-c.connected
	c.LinkHandler.Frame(l, h, body)
}

// Message waits for Connect and handles a message.
func (c connectedLink) Message(l *session.Link, seq uint16, m pb.Message) {
	<-c.connected
	c.LinkHandler.Message(l, seq, m)
}

// LoginLink returns the handler for links to login servers. It announces where clients
// reach this server, and how many it has.
func (h *Server) LoginLink() session.LinkHandler {
	return h.peers.LoginEnd(h.linkRouter("msg_login"))
}

// DBLink returns the handler for links to db_proxies, for messages that are no answers to
// calls.
func (h *Server) DBLink() session.LinkHandler { return peers.DBEnd(h.linkRouter("msg_dbproxy")) }

// ConnectPush sets the push servers. It must be called after Connect and before the first
// client connects. Without it, no pushes are sent.
func (h *Server) ConnectPush(peer Peer) {
	h.pushes.Connect(pusher.Peers{Push: peer, DB: h.db, Tokens: h.dbFirst, Route: h.route})
}

// PushLink returns the handler for links to push servers.
func (h *Server) PushLink() session.LinkHandler { return h.pushes.Link() }

// FileLink returns the handler for the link to a file server. Each file server has its
// own.
func (h *Server) FileLink() *transfer.Link { return h.transfer.Link() }

// ConnectFile adds a file server: peer is the link that l handles. Without a file server,
// files are refused. Any goroutine.
func (h *Server) ConnectFile(l *transfer.Link, peer Peer) { h.transfer.Add(l, peer) }

// DisconnectFile removes a file server that has left the deployment, or is restarting. Any
// goroutine.
func (h *Server) DisconnectFile(l *transfer.Link) { h.transfer.Remove(l) }
