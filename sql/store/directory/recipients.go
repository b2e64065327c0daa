package directory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/sql/store/database"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Recipients is the part that knows to which users messages may be sent.
type Recipients struct {
	db *database.DB

	// known holds the users that exist and have not departed, with the time of the look-up,
	// by mono.Of.
	known *lru.Cache[uint32, int64]
}

// NewRecipients makes the part with a cache of users that exist.
func NewRecipients(db *database.DB, users int) (*Recipients, error) {
	known, err := lru.New[uint32, int64](users)
	return &Recipients{db: db, known: known}, err
}

// KnownTTL is the time for which a look-up of a user is valid.
const KnownTTL = 60 * time.Second

// Check sets the error of messages to users that do not exist or have departed. It
// skips messages that have an error.
func (s *Recipients) Check(ctx context.Context, batch []*im.Message) error {
	now := mono.Of(s.db.ProcessTime()) // before the read
	ask := map[uint32]bool{}
	for _, m := range batch {
		if m.Type.IsGroup() || m.Err != nil {
			continue
		}
		if at, ok := s.known.Get(m.To); !ok || s.db.Since(at) >= KnownTTL {
			ask[m.To] = false
		}
	}
	if len(ask) == 0 {
		return nil
	}
	ids := make([]uint32, 0, len(ask))
	for id := range ask {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	err := database.InChunks(ids, database.Chunk, func(part []uint32) error {
		rows, err := s.db.Master.QueryContext(ctx, fmt.Sprintf("SELECT id FROM IMUser "+
			"WHERE id IN (%s) AND COALESCE(status, 0)<>%d", database.Join(part), im.StatusDeparted))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ask[id] = true
			s.known.Add(id, now)
		}
		return rows.Err()
	})
	if err != nil {
		return s.db.SQLError("look up recipients", err)
	}
	for _, m := range batch {
		there, asked := ask[m.To]
		if asked && !there && !m.Type.IsGroup() && m.Err == nil {
			m.Err = im.Errorf(im.Invalid, "recipient %d does not exist", m.To)
		}
	}
	return nil
}
