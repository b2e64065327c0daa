package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// The sound of an audio message is a row of IMAudio, written in the transaction of the
// message. The content of the message is the id of that row.

// isAudio reports whether the content of a message is the id of its sound.
func isAudio(t pb.MsgType) bool {
	return t == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || t == pb.MsgType_MSG_TYPE_GROUP_AUDIO
}

// writeAudio inserts the sounds of items and records their ids. The rows of one INSERT
// get ids that are auto_increment_increment apart, whatever other connections insert
// meanwhile. The server returns the first of them.
func writeAudio(ctx context.Context, sc *script, items []*item) error {
	sounds := slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
		return !isAudio(it.m.Type)
	})
	if len(sounds) == 0 {
		return nil
	}
	if err := sc.flush(ctx); err != nil {
		return err
	}
	tx := sc.conn
	step := int64(1)
	if len(sounds) > 1 {
		if err := tx.QueryRowContext(ctx,
			"SELECT @@auto_increment_increment").Scan(&step); err != nil {
			return err
		}
	}
	return inChunks(sounds, chunk, func(part []*item) error {
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

// readAudio replaces the ids in Data of audio messages by their sounds. A message whose
// row is missing has neither.
func readAudio(ctx context.Context, db querier, list []threadMessage) error {
	var ids []uint32
	of := map[uint32][]int{} // messages by the id of their sound
	for i := range list {
		m := &list[i]
		if !isAudio(m.Type) {
			continue
		}
		id, err := strconv.ParseUint(string(m.Data), 10, 32)
		m.Data = nil
		if err != nil {
			continue
		}
		ids = append(ids, uint32(id))
		of[uint32(id)] = append(of[uint32(id)], i)
	}
	return inChunks(ids, chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT id, COALESCE(path, ''), size, duration "+
			"FROM IMAudio WHERE id IN ("+join(part)+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			var a im.Audio
			if err := rows.Scan(&id, &a.Path, &a.Size, &a.Duration); err != nil {
				return err
			}
			for _, i := range of[id] {
				sound := a
				list[i].Audio = &sound
			}
		}
		return rows.Err()
	})
}
