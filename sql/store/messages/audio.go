package messages

import (
	"context"
	"fmt"
	"slices"

	"teamtalk/sql/store/database"
	"teamtalk/sql/store/history"
)

// The sound of an audio message is a row of IMAudio, written in the transaction of the
// message. The content of the message is the id of that row.

// writeAudio inserts the sounds of items and records their ids. The rows of one INSERT
// get ids that are auto_increment_increment apart, whatever other connections insert
// meanwhile. The server returns the first of them.
func writeAudio(ctx context.Context, sc *database.Script, items []*item) error {
	sounds := slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
		return !history.IsAudio(it.m.Type)
	})
	if len(sounds) == 0 {
		return nil
	}
	if err := sc.Flush(ctx); err != nil {
		return err
	}
	tx := sc.Conn()
	step := int64(1)
	if len(sounds) > 1 {
		if err := tx.QueryRowContext(ctx,
			"SELECT @@auto_increment_increment").Scan(&step); err != nil {
			return err
		}
	}
	return database.InChunks(sounds, database.Chunk, func(part []*item) error {
		b := []byte("INSERT INTO IMAudio (fromId,toId,size,duration,created,path) VALUES ")
		args := make([]any, len(part))
		for i, it := range part {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, "(%d,%d,%d,%d,%d,?)", it.m.From, it.m.To, it.m.Audio.Size,
				it.m.Audio.Duration, it.m.Created)
			args[i] = it.m.Audio.Path
		}
		res, err := tx.ExecContext(ctx, string(b), args...)
		if err != nil {
			return err
		}
		first, err := res.LastInsertId()
		if err != nil {
			return err
		}
		for i, it := range part {
			it.audio = uint32(first + int64(i)*step)
		}
		return nil
	})
}
