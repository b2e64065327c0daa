package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/client/loginserver"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// Options configures a Client. Zero values mean the defaults in the comments.
type Options struct {
	tcp.Credentials
	// Server is the URL of a login server, which the Client asks for a message server
	// before every connection.
	Server string
	// MsgServer is host:port of a message server. When it is set, no login server is
	// asked.
	MsgServer string
	Cipher    *im.TextCipher // nil: with im.DefaultTextKey

	// OnEvent receives the events, one at a time and in order, on a goroutine of the
	// Client. It may call methods that do not wait, such as Send and MarkRead. It must
	// not call methods that wait for the server or for the Client. When it is slow, the
	// Client stops reading from the connection while a few hundred events wait. Nil:
	// events are dropped.
	OnEvent func(Event)
	Logger  *slog.Logger // nil: silent

	// ConnectTimeout is the longest time of an attempt to connect, including the login; 0
	// is 10 s.
	ConnectTimeout time.Duration
	// SyncTimeout is the longest wait for an answer during a sync, and for a message that
	// is missing before others; 0 is 5 s.
	SyncTimeout time.Duration
	// AckTimeout is the time after which a message without ack is sent again; 0 is 5 s.
	AckTimeout time.Duration
	// Attempts is the number of times that one message is sent to a server that does not
	// ack it; 0 is 24, which takes two minutes.
	Attempts int
	// BackoffMin is the longest pause before an attempt to reconnect during the first 10
	// s of an outage; 0 is 800 ms. After that the pause grows by a quarter of the time
	// that has passed, up to BackoffMax; 0 is 30 s. The length of each pause is random,
	// evenly from zero to that value, so that clients that lost one server together do
	// not return together.
	BackoffMin, BackoffMax time.Duration
	Heartbeat              time.Duration // see tcp.Options
	// MaxPending is the most messages without ack, also while there is no connection; 0
	// is 1000. A further message, or more than 64 MiB of them, is rejected with im.Busy.
	MaxPending int
	// SendRate is the most messages sent per second; 0 is 15. By default servers drop
	// messages above 20 per second.
	SendRate float64
	// CatchUp is the most messages fetched per conversation after a reconnect; 0 is 1000.
	CatchUp int

	// TLS is the configuration of TLS for the message server and the file server, and, when
	// Server is an https URL, for the login server. The certificate of a server must hold
	// the host of its address, unless ServerName is set. Nil: plain TCP.
	TLS *tls.Config
	// HTTP asks the login server. Nil: a client without cookies.
	HTTP *http.Client
	// Dial opens a connection. Nil: TCP, with TLS if that is set.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Rand func() float64 // in [0, 1), for jitter; nil: math/rand/v2
	// NewID returns an id by which servers deduplicate a message. All ids must differ.
	// Nil: random UUIDs.
	NewID func() [16]byte

	holdAfter time.Duration // see order.go; tests shorten it
}

// sendBurst is the number of messages that may be sent at once, above SendRate.
const sendBurst = 5

// refusals is the number of logins in a row that may be refused for name or password
// before a Client that was logged in ends. Servers also refuse so when their database
// fails, or for a moment after a connection was lost.
const refusals = 5

func (o Options) withDefaults() Options {
	opt.Default(&o.ConnectTimeout, 10*time.Second)
	opt.Default(&o.SyncTimeout, 5*time.Second)
	opt.Default(&o.AckTimeout, 5*time.Second)
	opt.Default(&o.BackoffMin, 800*time.Millisecond)
	opt.Default(&o.BackoffMax, 30*time.Second)
	opt.Default(&o.holdAfter, holdAfter)
	opt.Default(&o.Attempts, 24)
	opt.Default(&o.MaxPending, 1000)
	opt.Default(&o.CatchUp, 1000)
	if o.SendRate == 0 {
		o.SendRate = 15
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HTTP == nil {
		o.HTTP = loginserver.NewHTTPClient(o.TLS)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
		if o.TLS != nil {
			o.Dial = (&tls.Dialer{Config: o.TLS}).DialContext
		}
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.NewID == nil {
		o.NewID = func() [16]byte { return uuid.New() }
	}
	return o
}
