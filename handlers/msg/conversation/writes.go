package conversation

import (
	"slices"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/session"
)

// A message that a search of package turns or group finds does not say which session sent
// it. So it goes to no session of its sender that has written lately.

// writesFor is how long a session counts as one that may have sent a found message.
const writesFor = time.Minute

// Writes reports whether the client has sent a message lately. Any goroutine.
func (c *Client) Writes(now time.Time) bool {
	at := c.wrote.Load()
	return at != 0 && time.Duration(mono.Of(now)-at) < writesFor
}

// notWriting returns the sessions whose clients have not sent a message lately.
func notWriting(sessions []*session.Client, client func(*session.Client) *Client,
	now time.Time) []*session.Client {
	return slices.DeleteFunc(slices.Clone(sessions),
		func(s *session.Client) bool { return client(s).Writes(now) })
}
