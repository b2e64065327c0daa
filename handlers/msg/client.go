package msg

import (
	"teamtalk/core/rate"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/admission"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/handlers/msg/passing"
	"teamtalk/handlers/msg/presence"
	"teamtalk/handlers/msg/transfer"
)

// client is what the server keeps for a client connection besides its session: the state
// of each part. It is the session's Data from Open on. Loop only, except for
// conversation.Client.Acks.
type client struct {
	// owed is how many acks the client owes for deliveries. It stands beside the unacked
	// deliveries, which each delivery changes too.
	owed         int32
	conversation conversation.Client
	admission    admission.Client
	passing      passing.Client
	transfer     transfer.Client
	presence     presence.Client
	junk         rate.Bucket // for frames without effect
	early        *early      // texts before the login; nil: none
}

func clientOf(s *session.Client) *client { return s.Data.(*client) }

func conversationOf(s *session.Client) *conversation.Client { return &clientOf(s).conversation }
func admissionOf(s *session.Client) *admission.Client       { return &clientOf(s).admission }
func passingOf(s *session.Client) *passing.Client           { return &clientOf(s).passing }
func transferOf(s *session.Client) *transfer.Client         { return &clientOf(s).transfer }
func presenceOf(s *session.Client) *presence.Client         { return &clientOf(s).presence }

// acks reports whether the client of s acknowledges deliveries. Any goroutine.
func acks(s *session.Client) bool { return clientOf(s).conversation.Acks() }

// loopState is what each loop keeps. It is the loop's Data.
type loopState struct {
	conversation conversation.Loop
	admission    admission.Loop
	passing      passing.Loop
	presence     presence.Loop
	early        earlyRoom // of the texts that wait for a login
	checked      int64     // the last second in which Tick did what it does once a second
}

func stateOf(l *session.Loop) *loopState { return l.Data.(*loopState) }

func conversationLoop(l *session.Loop) *conversation.Loop { return &stateOf(l).conversation }
func admissionLoop(l *session.Loop) *admission.Loop       { return &stateOf(l).admission }
func passingLoop(l *session.Loop) *passing.Loop           { return &stateOf(l).passing }
func presenceLoop(l *session.Loop) *presence.Loop         { return &stateOf(l).presence }
