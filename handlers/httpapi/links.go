package httpapi

import (
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Link is the handler for links to db_proxies and route servers: it introduces itself where it must, and listens to nothing. What it asks is answered
// by calls.
type Link struct {
	// Route says that it leads to a route server, which is told not to send presence here.
	Route bool
}

// Open introduces this server.
func (l Link) Open(s *session.Session) error {
	if !l.Route {
		return nil
	}
	role := &pb.IMRoleSet{}
	role.SetMaster(0)
	return s.Push(0, role)
}

// Frame has no use for a command that nobody knows.
func (Link) Frame(*session.Session, pdu.Header, []byte) {}

// Message has no use for what is sent to all servers.
func (Link) Message(*session.Session, uint16, pb.Message) {}

// Close has nothing to do: the link fails its calls itself.
func (Link) Close(*session.Session, error) {}
