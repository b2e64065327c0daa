package faults

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"teamtalk/bench/faults/deploy"
	"teamtalk/core/client"
	"teamtalk/core/client/loginserver"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
)

// sender is a client that sends texts and records all its events.
type sender interface {
	// id returns the client's user.
	id() uint32
	// use makes the client record in a ledger from now on.
	use(l *Ledger)
	// send sends a text and returns when another one may follow: with a client of this
	// project at once, with a stock client after the ack. It does nothing when ctx ends
	// before the first attempt. Once recorded, a text is sent until it is acked.
	send(ctx context.Context, c Conv, text string)
	// sync fetches what the client has not received. A client of this project does so by
	// itself.
	sync(ctx context.Context)
	// close ends the client.
	close()
}

// Times of clients. They are shorter than those of users' clients, so that a row has many
// rounds. A server sees no difference.
const (
	ackTimeout = 2 * time.Second
	backoffMin = 50 * time.Millisecond
	backoffMax = 400 * time.Millisecond
)

// maxWaiting is the largest number of texts of a client without an ack. More would only
// fill the time after a fault with texts that waited.
const maxWaiting = 8

// own is a client of this project: its texts have client_msg_ids, and it reports each
// message once and in order.
type own struct {
	name   string
	client *client.Client

	mu     sync.Mutex // guards the following fields; held during a Send, until its record
	ledger *Ledger
	sent   map[uint64]*Sent
}

// clientOptions returns the times and limits of clients.
func clientOptions() client.Options {
	return client.Options{
		AckTimeout: ackTimeout, BackoffMin: backoffMin, BackoffMax: backoffMax,
		SendRate: 10_000, CatchUp: 100_000, Attempts: 1000,
		// A connection that hangs is noticed after three heartbeats.
		Heartbeat: time.Second, ConnectTimeout: 3 * time.Second,
	}
}

// openOwn logs in at a message server, or at the one that a login server names, if there is any.
func openOwn(ctx context.Context, name, user, addr, login string, log *slog.Logger) (*own, error) {
	o := &own{name: name, sent: map[uint64]*Sent{}, ledger: NewLedger("")}
	opt := clientOptions()
	opt.Credentials = tcp.Credentials{User: user, Password: deploy.Password}
	opt.MsgServer, opt.OnEvent, opt.Logger = addr, o.event, log
	if login != "" {
		opt.MsgServer, opt.Server = "", login
	}
	c, err := client.Open(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	o.client = c
	return o, nil
}

func (o *own) id() uint32 { return o.client.UserID() }

func (o *own) use(l *Ledger) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ledger = l
}

func (o *own) sync(context.Context) {}

func (o *own) close() { _ = o.client.Close() }

func (o *own) send(_ context.Context, c Conv, text string) {
	if o.client.Pending() >= maxWaiting {
		return
	}
	to := client.Peer{ID: c.Group, Group: true}
	if c.Group == 0 {
		to = client.Peer{ID: c.other(o.id())}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	id, err := o.client.Send(to, text)
	if err != nil {
		o.ledger.Report(fmt.Sprintf("%s cannot send: %v", o.name, err))
		return
	}
	s := &Sent{Client: o.name, From: o.id(), Conv: c, Text: text, Named: true}
	o.sent[id] = s
	o.ledger.Send(s, time.Now())
}

// event records an event.
func (o *own) event(e client.Event) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		o.ledger.Connected(o.name, true, now)
	case client.Disconnected:
		o.ledger.Connected(o.name, false, now)
	case client.Resent:
		o.ledger.Repeat(o.sent[e.ID], now)
	case client.Acked:
		o.ledger.Ack(o.sent[e.ID], e.MsgID, now)
		delete(o.sent, e.ID)
	case client.SendFailed:
		o.ledger.Fail(o.sent[e.ID], now)
		o.ledger.Report(fmt.Sprintf("%s gave up a text: %v", o.name, e.Err))
		delete(o.sent, e.ID)
	case client.Received:
		text, err := o.client.Text(e.Message)
		if err != nil {
			o.ledger.Report(fmt.Sprintf("%s received %d: %v", o.name, e.Message.ID, err))
			return
		}
		o.ledger.Arrive(Arrival{Client: o.name, Conv: convOf(e.Message), Order: 1, Once: true,
			Message: Message{ID: e.Message.ID, From: e.Message.From, Text: text}})
	case client.Kicked, client.Refused, client.Skipped:
		o.ledger.Report(fmt.Sprintf("%s: %T %+v", o.name, e, e))
	}
}

// convOf returns the conversation of a message.
func convOf(m im.Message) Conv {
	if m.Type.IsGroup() {
		return Conv{Group: m.To}
	}
	return pair(m.From, m.To)
}

// finder returns the address of a message server.
type finder func(ctx context.Context) (string, error)

// findBy returns a finder that asks a login server; without one it returns addr.
func findBy(login, addr string) finder {
	return func(ctx context.Context) (string, error) {
		if login == "" {
			return addr, nil
		}
		list, err := loginserver.Discover(ctx, http.DefaultClient, login)
		if err != nil {
			return "", err
		}
		return list[0], nil
	}
}
