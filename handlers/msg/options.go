package msg

import (
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
	"teamtalk/core/origin"
	"teamtalk/core/trace"
	"teamtalk/handlers/msg/admission"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/handlers/msg/presence"
)

// DevicePolicy says what a second login of a user does to the first.
type DevicePolicy = admission.Policy

// The device policies.
const (
	DeviceClass = admission.DeviceClass
	OneClient   = admission.OneClient
	KeepFirst   = admission.KeepFirst
	Unlimited   = admission.Unlimited
)

// AckPolicy says when a sender gets its ack.
type AckPolicy = conversation.AckPolicy

// The ack policies.
const (
	AckDelivered = conversation.AckDelivered
	AckStored    = conversation.AckStored
)

// Presence says which clients are told when a PC client comes or leaves.
type Presence = presence.Mode

// The presence modes.
const (
	PresenceAll      = presence.All
	PresenceContacts = presence.Contacts
	PresenceNone     = presence.None
)

// Options sets up a Server. The fields hold the values of settings; core/config has their
// defaults. The peers are set with Connect.
type Options struct {
	// Proxies are networks of proxies, whose addresses are not those of clients. db_proxy
	// is not told them.
	Proxies origin.Networks
	// MaxConns is announced to login servers as the most clients held.
	MaxConns int
	// HostName is announced to login servers.
	HostName string
	// Alone says that no other message server can be connected: the route server is in
	// this process and has no port. Texts are not forwarded then.
	Alone bool
	// Listed says that login servers find this server in the registry, so that it needs no link
	// to one: clients may log in without.
	Listed bool

	// Announces says that the route server is a mesh: a login is announced to it before the
	// client is answered.
	Announces bool

	Policy   DevicePolicy
	Ack      AckPolicy
	Presence Presence

	// PresenceWindow is how long changes of users are collected, to be told together.
	// 0: each is told at once, unless clients are still being told of the one before.
	PresenceWindow time.Duration

	// AckWait is the longest an ack waits for the recipient's devices. Required.
	AckWait time.Duration
	// RedeliverAfter is the age at which a message that a device did not acknowledge is
	// sent to it again, once. 0: never.
	RedeliverAfter time.Duration
	// ResendWindow is how long a repeated message is recognised by its seq on one
	// connection. 0: not at all.
	ResendWindow time.Duration
	// Hold is how long a message of a client that does not repeat it is held while no
	// db_proxy stores it, and a query of any client while no server answers it. 0: not at
	// all.
	Hold time.Duration
	// Rate is how many messages a second one connection may send, RateBurst how many at
	// once. Further ones are dropped. Rate 0: no limit.
	Rate, RateBurst float64

	// RequireCipher drops texts that are not base64 of whole cipher blocks, see
	// im.IsCipherText. Otherwise texts are opaque.
	RequireCipher bool
	// Whereabouts asks db_proxies on which message servers the users of texts have devices,
	// for other servers that are reached without a route server.
	Whereabouts bool

	// PushText is how many characters of a message a push shows behind the sender's nick.
	// 0: none, only the nick.
	PushText int
	// TextKey is the key of the clients' texts, 32 bytes, which pushes need. Default
	// im.DefaultTextKey.
	TextKey string

	// TicketKey signs tickets for uploads to the small file server, see package ticket. Empty:
	// clients get none.
	TicketKey []byte

	// LoginDeadline closes connections that did not log in. 0: never.
	LoginDeadline time.Duration
	// PCTimeout and MobileTimeout close clients that sent nothing for so long. 0:
	// never.
	PCTimeout, MobileTimeout time.Duration

	Audit *audit.Log // nil: none
	// Trace records the ways of messages. nil: none.
	Trace *trace.Tracer

	// LoginKey returns the key of the logins with a name, which selects their db_proxy. Default
	// a hash that differs between processes.
	LoginKey func(name string) uint64
	Now      func() time.Time // default mono.Now
	// AfterFunc calls f in d, unless stop is called before. Default mono.AfterFunc.
	AfterFunc  func(d time.Duration, f func()) (stop func() bool)
	Log        *slog.Logger          // default: discarded
	Registerer prometheus.Registerer // default: none
}

func (o *Options) defaults() {
	opt.Require("msg.AckWait", o.AckWait)
	if o.Now == nil {
		o.Now = mono.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = mono.AfterFunc
	}
	if o.LoginKey == nil {
		seed := maphash.MakeSeed()
		o.LoginKey = func(name string) uint64 { return maphash.String(seed, name) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}
