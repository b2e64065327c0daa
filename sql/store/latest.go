package store

import (
	"context"
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// latest returns the newest visible message of each of the user's conversations that has
// one. joined are the user's groups.
func (s *history) latest(ctx context.Context, user uint32, keys []peerKey,
	joined []joinedGroup) (map[peerKey]im.Message, error) {
	since := make(map[uint32]joining, len(joined))
	for _, j := range joined {
		since[j.group] = j.joining
	}
	var newest map[peerKey]im.Message
	err := s.db.read(ctx, func(db querier) (err error) {
		newest, err = s.latestIn(ctx, db, user, keys, since)
		return err
	})
	return newest, s.db.dbError("read latest messages", err)
}

// latestIn reads one database, with one query for relations that are not cached and one
// for the messages. When the user may not see the newest message of a group by its time,
// it looks for others: the clocks of message servers may differ.
func (s *history) latestIn(ctx context.Context, db querier, user uint32, keys []peerKey,
	since map[uint32]joining) (map[peerKey]im.Message, error) {
	newest := make(map[peerKey]im.Message, len(keys))
	threads, of, err := s.threadsOf(ctx, db, user, keys)
	if err != nil || len(threads) == 0 {
		return newest, err
	}
	form := func(t thread, ids string) string {
		return fmt.Sprintf("SELECT %s FROM %s JOIN (SELECT %s AS c, MAX(msgId) AS n FROM %[2]s "+
			"WHERE %[3]s IN (%[4]s) AND status=0 GROUP BY %[3]s) AS l "+
			"ON %[3]s=l.c AND msgId=l.n WHERE status=0", t.columns(), t.table(), t.column(), ids)
	}
	err = inChunks(threads, chunk, func(part []thread) error {
		list, err := readMessages(ctx, db, unionByTable(part, form))
		for _, m := range list {
			newest[of[m.in]] = m.Message
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for k, m := range newest {
		j := since[k.peer]
		if k.kind != pb.SessionType_SESSION_TYPE_GROUP || j.sees(&m) {
			continue
		}
		delete(newest, k)
		if j.byID {
			continue
		}
		list, err := historySince(ctx, db, k.peer, j.at, m.ID, 1)
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
func (s *history) threadsOf(ctx context.Context, db querier, user uint32,
	keys []peerKey) ([]thread, map[thread]peerKey, error) {
	var pairs []uint64
	of := make(map[thread]peerKey, len(keys))
	for _, k := range keys {
		if k.kind == pb.SessionType_SESSION_TYPE_GROUP {
			of[thread{group: true, id: k.peer}] = k
		} else {
			pairs = append(pairs, im.ConversationKey(user, k.peer))
		}
	}
	found, err := s.conversations.find(ctx, db, pairs)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range keys {
		if c := found[im.ConversationKey(user, k.peer)]; c != nil &&
			k.kind == pb.SessionType_SESSION_TYPE_SINGLE {
			of[c.thread] = k
		}
	}
	threads := make([]thread, 0, len(of))
	for t := range of {
		threads = append(threads, t)
	}
	slices.SortFunc(threads, compareThreads)
	return threads, of, nil
}
