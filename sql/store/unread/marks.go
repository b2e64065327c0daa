package unread

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

// Unread counts are in Redis alone. So that they can be made again, the last message that
// each user has read in a conversation is stored in the table IMReadMark. Reads are about
// as many as messages. So marks are collected, and written once a second, each once. A
// process that dies loses the marks of the last second: after a later loss of Redis its
// users have a few messages too many as unread, never too few.

// readMark identifies a user's mark in a conversation with a user or in a group.
type readMark struct {
	user, peer uint32
	kind       pb.SessionType
}

// compare orders marks as the primary key does, so that processes do not deadlock.
func (k readMark) compare(o readMark) int {
	return cmp.Or(cmp.Compare(k.user, o.user), cmp.Compare(k.peer, o.peer),
		cmp.Compare(k.kind, o.kind))
}

// Marks is the part that stores read marks.
type Marks struct {
	db      *database.DB
	mu      sync.Mutex
	pending map[readMark]uint32 // message ids
	pulse   *mono.Pulse

	recent   lastReads
	outcomes *prometheus.CounterVec
}

// NewMarks makes the part.
func NewMarks(db *database.DB) *Marks {
	return &Marks{db: db, pulse: mono.NewPulse(),
		outcomes: db.Metrics.CounterVec("read_marks", "Read marks: stored in MySQL, or dropped "+
			"because too many waited for it. Forgotten counts reads that are not repeated after "+
			"a loss of Redis, because there were too many within a minute.", "what")}
}

// markInterval is the time between two writes of marks.
const markInterval = time.Second

// maxPendingMarks bounds the marks that wait for MySQL.
const maxPendingMarks = 100_000

// note records that a user has read everything up to a message.
func (s *Marks) note(k readMark, msg uint32) {
	if msg == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.pending[k]
	if !ok && len(s.pending) >= maxPendingMarks {
		s.outcomes.WithLabelValues("dropped").Inc()
		return
	}
	if s.pending == nil {
		s.pending = map[readMark]uint32{}
	}
	s.pending[k] = max(old, msg)
	s.pulse.Use()
}

// Keep writes marks once a second while there are new ones, until ctx ends.
func (s *Marks) Keep(ctx context.Context) {
	s.pulse.Run(ctx.Done(), markInterval, 0, func() {
		if err := s.Flush(ctx); err != nil && ctx.Err() == nil {
			s.db.Log.Warn("read marks not stored", "err", err)
		}
	})
}

// Flush writes the marks that wait. Marks that cannot be written wait for the next flush.
func (s *Marks) Flush(ctx context.Context) error {
	s.mu.Lock()
	taken := s.pending
	s.pending = nil
	s.mu.Unlock()
	list := slices.SortedFunc(maps.Keys(taken), readMark.compare)
	for len(list) > 0 {
		part := list[:min(len(list), 1000)]
		if err := s.write(ctx, part, taken); err != nil {
			for _, k := range list {
				s.note(k, taken[k])
			}
			return s.db.SQLError("store read marks", err)
		}
		s.outcomes.WithLabelValues("stored").Add(float64(len(part)))
		list = list[len(part):]
	}
	return nil
}

// write writes marks. A mark never goes back.
func (s *Marks) write(ctx context.Context, list []readMark, ids map[readMark]uint32) error {
	b := []byte("INSERT INTO IMReadMark (userId,peerId,type,msgId) VALUES ")
	for i, k := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "(%d,%d,%d,%d)", k.user, k.peer, k.kind, ids[k])
	}
	b = append(b, " ON DUPLICATE KEY UPDATE msgId=GREATEST(msgId, VALUES(msgId))"...)
	return s.db.Retry(ctx, func() error {
		_, err := s.db.Master.ExecContext(ctx, string(b))
		return err
	})
}

// stored reads marks. The result lacks those that are not stored.
func (s *Marks) stored(ctx context.Context, list []readMark) (map[readMark]uint32, error) {
	found := make(map[readMark]uint32, len(list))
	err := database.InChunks(list, database.Chunk, func(part []readMark) error {
		var q strings.Builder
		q.WriteString("SELECT userId, peerId, type, msgId FROM IMReadMark WHERE ")
		for i, k := range part {
			if i > 0 {
				q.WriteString(" OR ")
			}
			fmt.Fprintf(&q, "(userId=%d AND peerId=%d AND type=%d)", k.user, k.peer, k.kind)
		}
		rows, err := s.db.Master.QueryContext(ctx, q.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k readMark
			var msg uint32
			if err := rows.Scan(&k.user, &k.peer, &k.kind, &msg); err != nil {
				return err
			}
			found[k] = msg
		}
		return rows.Err()
	})
	return found, s.db.SQLError("read read marks", err)
}

// begin records since when marks are stored, and returns that time in unix seconds. first
// means that it is now.
func (s *Marks) begin(ctx context.Context) (since uint32, first bool, err error) {
	err = s.db.Retry(ctx, func() error {
		res, err := s.db.Master.ExecContext(ctx, "INSERT IGNORE INTO IMReadMark "+
			"(userId, peerId, type, msgId) VALUES (0, 0, 0, UNIX_TIMESTAMP())")
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		first = first || n == 1
		return err
	})
	if err == nil {
		err = s.db.Master.QueryRowContext(ctx, "SELECT msgId FROM IMReadMark "+
			"WHERE userId=0 AND peerId=0 AND type=0").Scan(&since)
	}
	return since, first, s.db.SQLError("record the begin of read marks", err)
}
