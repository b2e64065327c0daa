package msg

import (
	"teamtalk/core/pusher"
	"teamtalk/core/session"
)

// ConnectPush sets the push servers, after Connect and before the first client comes. Without, nobody is pushed to and nobody asked.
func (h *Server) ConnectPush(peer Peer) {
	h.pushes.Connect(pusher.Peers{Push: peer, DB: h.db, Tokens: h.dbFirst, Route: h.route})
}

// PushLink is the handler for links to push servers.
func (h *Server) PushLink() session.Handler { return h.pushes.Link() }
