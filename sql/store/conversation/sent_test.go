package conversation

import (
	"testing"

	"teamtalk/core/im"
)

// remembering returns a conversation whose last settled message is 3, and which remembers list
// from a time on.
func remembering(total *sentTotal, since uint32, list ...Sent) *Conversation {
	c := &Conversation{total: total, settled: 3}
	c.SentBefore(asked(1, 1, since)) // as before each read
	by := map[Sent]uint32{}
	for _, e := range list {
		by[e] = since
	}
	c.ReadSent(since, since, len(list), by)
	return c
}

// asked is a message that may be a repeat from the last 60 seconds.
func asked(from, sentAs, created uint32) *im.Message {
	return &im.Message{From: from, SentAs: sentAs, Created: created, ResentWithin: 60}
}

func TestConversationRemembersWhatWasSent(t *testing.T) {
	var total sentTotal
	c := remembering(&total, 1000, Sent{1, 7})
	for what, q := range map[string]struct {
		m    *im.Message
		want Answer
	}{
		"another number":     {asked(1, 8, 1100), Absent},
		"another sender":     {asked(2, 7, 1100), Absent},
		"the same":           {asked(1, 7, 1100), Ask},
		"before it was read": {asked(1, 8, 1050), Ask},
	} {
		if got := c.SentBefore(q.m); got != q.want {
			t.Errorf("%s: %v, want %v", what, got, q.want)
		}
	}
	c.SettleNext(4, asked(1, 8, 1100))
	if got := c.SentBefore(asked(1, 8, 1101)); got != Ask {
		t.Errorf("after it was stored: %v, want %v", got, Ask)
	}
	c.SettleNext(6, asked(1, 9, 1100)) // another process has stored 5
	c.Settle(5)
	if got := c.SentBefore(asked(1, 9, 1101)); got != Unread {
		t.Errorf("with a message of another process in between: %v, want %v", got, Unread)
	}
	if n := total.n.Load(); n != 0 {
		t.Errorf("%d messages are counted, and none is remembered", n)
	}
}

func TestMemoryOfSentMessagesIsBounded(t *testing.T) {
	var total sentTotal
	c := remembering(&total, 1000)
	for i := range uint32(maxSent) {
		c.SettleNext(4+i, asked(1, 1+i, 1100)) // all may be repeated
	}
	if got := c.SentBefore(asked(1, 1<<20, 1101)); got != Absent || len(c.sent.by) != maxSent {
		t.Fatalf("%v with %d messages", got, len(c.sent.by))
	}
	c.SettleNext(4+maxSent, asked(1, 1<<20, 1102))
	if got := c.SentBefore(asked(1, 1<<21, 1103)); got != Ask {
		t.Errorf("with one message too many: %v, want %v", got, Ask)
	}
	if got := c.SentBefore(asked(1, 1<<21, 1102+sentPause)); got != Unread {
		t.Errorf("some seconds later: %v, want %v", got, Unread)
	}
	c.ReadSent(1000, 1200, MaxSent+1, map[Sent]uint32{})
	if n := total.n.Load(); n != 0 || c.SentBefore(asked(1, 1, 1201)) != Ask {
		t.Errorf("too many messages in the table are remembered, %d are counted", n)
	}
	total.add(maxSentAll)
	if other := remembering(&total, 1000); other.SentBefore(asked(1, 1, 1100)) == Absent {
		t.Error("more is remembered than the bound of all conversations allows")
	}
}

func TestOldMessagesAreForgotten(t *testing.T) {
	var total sentTotal
	c := remembering(&total, 1000)
	for i := range uint32(2 * maxSent) { // ten a second
		c.SettleNext(4+i, asked(1, 1+i, 1100+i/10))
	}
	last := asked(2, 1, 1100+2*maxSent/10)
	if got := c.SentBefore(last); got != Absent {
		t.Errorf("%v, want %v", got, Absent)
	}
	if n := len(c.sent.by); n < 600 || n > 2000 {
		t.Errorf("%d messages are remembered, of the last minute there are 600", n)
	}
	c.evicted()
	if n := total.n.Load(); n != 0 {
		t.Errorf("%d messages of a conversation that was evicted are counted", n)
	}
}
