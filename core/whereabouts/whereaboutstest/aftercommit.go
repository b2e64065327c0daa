package whereaboutstest

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/core/whereabouts"
)

// AfterCommit is a store whose messages come back with the whereabouts of their users, as those of
// the store on Redis do.
type AfterCommit struct {
	im.Store
	Whereabouts whereabouts.Store
}

// AppendMessages stores a batch, and then looks up the users of the messages that want it.
func (a AfterCommit) AppendMessages(ctx context.Context, batch []*im.Message) {
	a.Store.AppendMessages(ctx, batch)
	for _, m := range batch {
		if !m.WantWhereabouts || m.Type.IsGroup() || m.Err != nil || m.Duplicate {
			continue
		}
		f := a.Whereabouts.Lookup(ctx, []uint32{m.To, m.From})
		if m.Whereabouts = nil; f[0].Err == nil && f[1].Err == nil {
			m.Whereabouts = whereabouts.OfMessage{Receiver: f[0].Entries,
				Sender: f[1].Entries}.Encode()
		}
	}
}
