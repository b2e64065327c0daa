package msg

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// Options sets up a Server. Zero values mean the defaults; the peers are set with
// Connect.
type Options struct {
	// MaxConns is announced to login servers as the most clients held. Default 100,000.
	MaxConns int
	// HostName is announced to login servers.
	HostName string

	Policy   DevicePolicy // default DeviceClass
	Ack      AckPolicy    // default AckDelivered
	Presence Presence     // default PresenceAll

	// PresenceWindow is how long changes of users are collected, to be told together.
	// Default 100 ms; negative: each is told at once, unless clients are still being told
	// of the one before.
	PresenceWindow time.Duration

	// AckWait is the longest an ack waits for the recipient's devices. Default 2 s.
	AckWait time.Duration
	// RedeliverAfter is the age at which a message that a device did not acknowledge is
	// sent to it again, once. Default 15 s; negative: never.
	RedeliverAfter time.Duration
	// ResendWindow is how long a repeated message is recognised by its seq on one
	// connection. Default 60 s; negative: not at all.
	ResendWindow time.Duration
	// Rate is how many messages a second one connection may send, RateBurst how many at
	// once. Further ones are dropped. Default 20 and 20; a negative Rate means no limit.
	Rate, RateBurst float64

	// RequireCipher drops texts that are not base64 of whole cipher blocks, see
	// im.IsCipherText. Default: texts are opaque.
	RequireCipher bool

	// PushText is how many characters of a message a push shows behind the sender's nick.
	// Default 40; negative: none, only the nick.
	PushText int
	// TextKey is the key of the clients' texts, 32 bytes, which pushes need. Default
	// im.DefaultTextKey.
	TextKey string

	// LoginDeadline closes connections that did not log in. Default 15 s.
	LoginDeadline time.Duration
	// PCTimeout and MobileTimeout close clients that sent nothing for so long. Default
	// 120 s and 300 s.
	PCTimeout, MobileTimeout time.Duration

	Now        func() time.Time      // default time.Now
	Log        *slog.Logger          // default: discarded
	Registerer prometheus.Registerer // default: none
}

func (o *Options) defaults() {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&o.PresenceWindow, 100*time.Millisecond)
	set(&o.AckWait, 2*time.Second)
	set(&o.RedeliverAfter, 15*time.Second)
	set(&o.ResendWindow, time.Minute)
	set(&o.LoginDeadline, 15*time.Second)
	set(&o.PCTimeout, 120*time.Second)
	set(&o.MobileTimeout, 300*time.Second)
	if o.MaxConns <= 0 {
		o.MaxConns = 100_000
	}
	if o.Rate == 0 {
		o.Rate = 20
	}
	if o.PushText == 0 {
		o.PushText = 40
	}
	if o.RateBurst <= 0 {
		o.RateBurst = max(o.Rate, 1)
	}
	if o.Policy == "" {
		o.Policy = DeviceClass
	}
	if o.Ack == "" {
		o.Ack = AckDelivered
	}
	if o.Presence == "" {
		o.Presence = PresenceAll
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}
