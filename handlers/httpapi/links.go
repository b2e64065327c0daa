package httpapi

import (
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Link is the handler for links to db_proxies. All requests are calls of the link, so that
// it ignores all messages.
type Link struct{}

// Open sends nothing.
func (Link) Open(*session.Link) error { return nil }

// Frame ignores frames: the peers send only answers.
func (Link) Frame(*session.Link, pdu.Header, []byte) {}

// Message ignores messages that are sent to all servers.
func (Link) Message(*session.Link, uint16, pb.Message) {}

// Close does nothing: the link itself fails its calls.
func (Link) Close(*session.Link, error) {}
