package httpapi

import (
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Link is the handler for links to db_proxies and route servers. All requests are calls
// of the link, so that it ignores all messages.
type Link struct {
	// Route is set for links to route servers, which are told not to send presence here.
	Route bool
}

// Open sends the role of this server to a route server.
func (l Link) Open(s *session.Link) error {
	if !l.Route {
		return nil
	}
	role := &pb.IMRoleSet{}
	role.SetMaster(0)
	return s.Send(0, role)
}

// Frame ignores frames: the peers send only answers.
func (Link) Frame(*session.Link, pdu.Header, []byte) {}

// Message ignores messages that are sent to all servers.
func (Link) Message(*session.Link, uint16, pb.Message) {}

// Close does nothing: the link itself fails its calls.
func (Link) Close(*session.Link, error) {}
