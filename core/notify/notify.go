// Package notify sends notifications to the services that wake phones: Apple's (APNs) and
// Google's (FCM). Without credentials for a service, notifications go to the log.
package notify

import (
	"context"
	"log/slog"
	"time"

	"teamtalk/proto/pb"
)

// Notification is a message to one phone.
type Notification struct {
	Client pb.ClientType // CLIENT_TYPE_IOS or CLIENT_TYPE_ANDROID
	Token  string        // the phone's, from its service
	Text   string        // shown to the user
	Data   string        // JSON for the app, as the message server wrote it
	Badge  uint32        // unread messages, shown on the app's icon
	Silent bool          // shown without a sound: the user sits at a pc
}

// Outcome is the result of sending a notification.
type Outcome uint8

// The outcomes.
const (
	Sent    Outcome = iota // the service accepted it
	Dead                   // the token is no longer valid: the sender deletes it
	Refused                // the service will never accept this notification
	Later                  // the service failed or was not reached: the sender retries
)

// String returns the outcome's name in metrics.
func (o Outcome) String() string {
	return [...]string{"sent", "dead", "refused", "later"}[o]
}

// Result is a service's answer.
type Result struct {
	Outcome Outcome
	Reason  string // the service's code for it; empty when sent
	// After is the pause that the service asked for, with the outcome Later. 0: none.
	After time.Duration
}

// Provider is a service that sends notifications.
type Provider interface {
	// Send sends one notification and waits for the answer until ctx ends. Any goroutine.
	Send(ctx context.Context, n Notification) Result
}

// Log is a Provider that logs notifications instead of sending them, without text and
// token.
type Log struct{ Logger *slog.Logger }

// Send logs n.
func (l Log) Send(_ context.Context, n Notification) Result {
	l.Logger.Info("push not sent: no service is set up", "client", n.Client.String(), "badge",
		n.Badge, "silent", n.Silent)
	return Result{Outcome: Sent}
}
