package dbproxy

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Message servers ask every few seconds which users were changed, and disconnect the
// clients of those that may not log in any more. All of them ask nearly the same, so an
// answer is used for a second.
//
// A row may become visible later than its time of change, see package directory. So the
// next request starts a minute before the newest change, until that change has been known
// for two minutes. The message server receives the rows of that minute repeatedly, which
// has no effect.

const (
	// credentialsKey is the task key of these requests, which run one at a time. No user
	// has this id.
	credentialsKey = 1<<63 + 3
	// credentialsAge is the largest age of an answer.
	credentialsAge = time.Second
	// maxCredentials is the number of users in one answer. maxCredentialPages is the
	// number of answers that are kept.
	maxCredentials     = 1000
	maxCredentialPages = 64

	credentialsSlack = 60 // seconds
	credentialsQuiet = 2 * time.Minute
)

// credentialStore is what credentials needs of the store.
type credentialStore interface {
	CredentialsChangedSince(ctx context.Context, since, after uint32,
		limit int) ([]im.Credential, uint32, error)
}

// credentials answers the requests for changed credentials. Its fields are used by one
// task at a time.
type credentials struct {
	*runner
	store  credentialStore
	pages  map[credentialsFrom]*credentialsPage
	newest uint32    // latest time of change of all users
	moved  time.Time // when newest was seen first
}

// credentialsFrom is where an answer begins: since and after of the request.
type credentialsFrom struct{ since, after uint32 }

// credentialsPage is an answer. It is immutable.
type credentialsPage struct {
	asked time.Time
	list  []*pb.Credential
	next  credentialsFrom
	more  bool
}

func newCredentials(r *runner, store credentialStore) *credentials {
	return &credentials{runner: r, store: store, pages: map[credentialsFrom]*credentialsPage{}}
}

// register registers the request. One that fails is not answered, and the message server
// repeats it.
func (c *credentials) register() {
	handle(c.runner, work[*pb.IMCredentialsReq]{
		user: func(*pb.IMCredentialsReq) uint64 { return credentialsKey }, run: c.changed})
}

func (c *credentials) changed(ctx context.Context, m *pb.IMCredentialsReq) (pb.Message, error) {
	from, now := credentialsFrom{m.GetSince(), m.GetAfter()}, c.now()
	page := c.pages[from]
	if page == nil || now.Sub(page.asked) >= credentialsAge {
		for from, old := range c.pages {
			if now.Sub(old.asked) >= credentialsAge || len(c.pages) >= maxCredentialPages {
				delete(c.pages, from)
			}
		}
		var err error
		if page, err = c.read(ctx, from, now); err != nil {
			return nil, err
		}
		c.pages[from] = page
	}
	rsp := pb.IMCredentialsRsp_builder{List: page.list, NextSince: &page.next.since,
		NextAfter: &page.next.after, More: &page.more}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// read reads a page.
func (c *credentials) read(ctx context.Context, from credentialsFrom,
	now time.Time) (*credentialsPage, error) {
	limit := maxCredentials
	if from.since == 0 {
		limit = 0
	}
	rows, newest, err := c.store.CredentialsChangedSince(ctx, from.since, from.after, limit)
	if err != nil {
		return nil, err
	}
	if newest != c.newest || c.moved.IsZero() {
		c.newest, c.moved = newest, now
	}
	page := &credentialsPage{asked: now, list: make([]*pb.Credential, len(rows))}
	for i, row := range rows {
		page.list[i] = pb.Credential_builder{UserId: proto.Uint32(row.User),
			Status: proto.Uint32(uint32(row.Status)), Credential: []byte(row.Digest)}.Build()
		if row.Moved {
			page.list[i].SetMoved(true)
		}
	}
	switch {
	case limit > 0 && len(rows) == limit:
		last := rows[limit-1]
		page.next, page.more = credentialsFrom{last.Updated, last.User}, true
	case now.Sub(c.moved) >= credentialsQuiet:
		page.next.since = newest + 1
	default:
		page.next.since = max(newest, credentialsSlack+1) - credentialsSlack // never 0
	}
	return page, nil
}
