package history

import (
	"context"
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
)

// Latest returns the newest visible message of each of the user's conversations that has
// one. joined are the user's groups.
func (s *History) Latest(ctx context.Context, user uint32, keys []conversation.Peer,
	joined []members.JoinedGroup) (map[conversation.Peer]im.Message, error) {
	since := make(map[uint32]members.Joining, len(joined))
	for _, j := range joined {
		since[j.Group] = j.Joining
	}
	var newest map[conversation.Peer]im.Message
	err := s.db.Read(ctx, func(db database.Querier) (err error) {
		newest, err = s.latestIn(ctx, db, user, keys, since)
		return err
	})
	return newest, s.db.SQLError("read latest messages", err)
}

// latestIn reads one database, with one query for relations that are not cached and one
// for the messages. When the user may not see the newest message of a group by its time,
// it looks for others: the clocks of message servers may differ.
func (s *History) latestIn(ctx context.Context, db database.Querier, user uint32,
	keys []conversation.Peer, since map[uint32]members.Joining) (
	map[conversation.Peer]im.Message, error) {
	newest := make(map[conversation.Peer]im.Message, len(keys))
	threads, of, err := s.threadsOf(ctx, db, user, keys)
	if err != nil || len(threads) == 0 {
		return newest, err
	}
	form := func(t conversation.Thread, ids string) string {
		return fmt.Sprintf("SELECT %s FROM %s JOIN (SELECT %s AS c, MAX(msgId) AS n FROM %[2]s "+
			"WHERE %[3]s IN (%[4]s) AND status=0 GROUP BY %[3]s) AS l "+
			"ON %[3]s=l.c AND msgId=l.n WHERE status=0", t.Columns(), t.Table(), t.Column(), ids)
	}
	err = database.InChunks(threads, database.Chunk, func(part []conversation.Thread) error {
		list, err := readMessages(ctx, db, conversation.UnionByTable(part, form))
		for _, m := range list {
			newest[of[m.in]] = m.Message
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for k, m := range newest {
		j := since[k.ID]
		if k.Kind != pb.SessionType_SESSION_TYPE_GROUP || j.Sees(&m) {
			continue
		}
		delete(newest, k)
		if j.ByID {
			continue
		}
		list, err := historySince(ctx, db, k.ID, j.At, m.ID, 1)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			newest[k] = list[0].Message
		}
	}
	return newest, nil
}

// threadsOf returns the threads of the user's conversations, and the conversation of each
// thread.
func (s *History) threadsOf(ctx context.Context, db database.Querier, user uint32,
	keys []conversation.Peer) ([]conversation.Thread, map[conversation.Thread]conversation.Peer,
	error) {
	var pairs []uint64
	of := make(map[conversation.Thread]conversation.Peer, len(keys))
	for _, k := range keys {
		if k.Kind == pb.SessionType_SESSION_TYPE_GROUP {
			of[conversation.Thread{Group: true, ID: k.ID}] = k
		} else {
			pairs = append(pairs, im.ConversationKey(user, k.ID))
		}
	}
	found, err := s.conversations.Find(ctx, db, pairs)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range keys {
		if c := found[im.ConversationKey(user, k.ID)]; c != nil &&
			k.Kind == pb.SessionType_SESSION_TYPE_SINGLE {
			of[c.Thread] = k
		}
	}
	threads := make([]conversation.Thread, 0, len(of))
	for t := range of {
		threads = append(threads, t)
	}
	slices.SortFunc(threads, conversation.CompareThreads)
	return threads, of, nil
}
