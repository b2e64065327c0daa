// Package notify hands notifications to the services that wake phones: Apple's (APNs) and Google's (FCM), or to the log where there are none.
package notify

import (
	"context"
	"log/slog"
	"time"

	"teamtalk/proto/pb"
)

// Notification is what one phone is told.
type Notification struct {
	Client pb.ClientType // CLIENT_TYPE_IOS or CLIENT_TYPE_ANDROID
	Token  string        // of the phone
	Text   string        // shown
	Data   string        // for the app, as the message server wrote it; JSON
	Badge  uint32        // unread messages, shown on the app's icon
	Silent bool          // shown without a sound: the user sits at a pc
}

// Outcome is what became of a notification.
type Outcome uint8

// The outcomes.
const (
	Sent    Outcome = iota // the service took it
	Dead                   // the token is nobody's any more: forget it
	Refused                // the service will never take this one
	Later                  // the service, or the way to it, is in trouble: try again
)

// String names the outcome as metrics do.
func (o Outcome) String() string {
	return [...]string{"sent", "dead", "refused", "later"}[o]
}

// Result is a service's answer.
type Result struct {
	Outcome Outcome
	Reason  string // the service's word for it; empty when sent
	// with Later: how long the service wants to be left alone, 0 when it did not say
	After time.Duration
}

// Provider is a service.
type Provider interface {
	// Send hands over one notification and waits for the answer, no longer than ctx allows. It may be called from many goroutines.
	Send(ctx context.Context, n Notification) Result
}

// Log is a Provider that tells the log what would be sent, without its text and token.
type Log struct{ Logger *slog.Logger }

// Send logs n.
func (l Log) Send(_ context.Context, n Notification) Result {
	l.Logger.Info("push not sent: no service is set up", "client", n.Client.String(), "badge",
		n.Badge, "silent", n.Silent)
	return Result{Outcome: Sent}
}
