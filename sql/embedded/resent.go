package embedded

import (
	"bytes"
	"database/sql"
	"fmt"
	"iter"
	"math"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/numbering"
)

// A client without client_msg_ids sends a message again on a new connection when it got no
// ack for it. The row of a message has what the client numbered it as. In the first seconds of
// a connection any message may be such a repeat, and nearly none is. So a conversation remembers
// how its last messages were numbered, and only one with the same number is read.

// numberedQuery reads how the messages of a range were numbered, and resentQuery one of them
// again, by table and column of the sender. The content of an audio message is the id of its
// sound.
const (
	numberedQuery = "select id, %[2]s, sentAs, created from %[1]s " +
		"where id between ? and ? order by id"
	resentQuery = `select m.content, m.created, coalesce(a.size, 0), coalesce(a.duration, 0)
	from %s m left join IMAudio a on m.type in (2, 18) and a.id = cast(m.content as integer)
	where m.id = ? and m.%s = ? and m.sentAs = ? and m.type = ? and m.created >= ? and m.status = 0`
)

// resends recognises messages that their clients sent before.
type resends struct {
	*numbering.Memory
	users, groups resendsIn
}

// resendsIn is the statements for one table of messages.
type resendsIn struct{ numbered, find *sql.Stmt }

// queries returns the statements to prepare.
func (r *resends) queries() []query {
	var list []query
	for _, t := range []struct {
		*resendsIn
		table, sender string
	}{{&r.users, "IMMessage", "fromId"}, {&r.groups, "IMGroupMessage", "userId"}} {
		list = append(list, query{&t.numbered, fmt.Sprintf(numberedQuery, t.table, t.sender)},
			query{&t.find, fmt.Sprintf(resentQuery, t.table, t.sender)})
	}
	return list
}

// in returns the statements for the table of m.
func (r *resends) in(m *im.Message) *resendsIn {
	if m.Type.IsGroup() {
		return &r.groups
	}
	return &r.users
}

// recognise sets p.id, p.duplicate and p.created when its sender sent p before, in the conversation
// or group with that last message.
func (a *arrival) recognise(chat int64, last uint32, p *pending) error {
	in := a.w.resends.in(p.m)
	list := a.w.resends.Get(chat, last)
	if list == nil {
		if err := a.settle(arrivals.Chat(chat), math.MaxInt); err != nil {
			return err
		}
		var err error
		if list, err = in.read(rowOf(chat), last, a.freshOf(chat)); err != nil {
			return err
		}
		a.w.resends.Put(chat, list)
	}
	sent := numbering.Key{From: p.m.From, SentAs: p.m.SentAs}
	for id := range list.Find(sent, p.m.ResentSince()) {
		if a.compareFresh(chat, id, p) {
			continue
		}
		if err := a.settle(arrivals.Chat(chat), math.MaxInt); err != nil {
			return err
		}
		if err := in.compare(rowOf(chat), id, p); err != nil {
			return err
		}
	}
	return nil
}

// rowOf returns the id of the relation or group of a conversation.
func rowOf(chat int64) int64 { return max(chat, -chat) }

// compareFresh is compare for a message that the transaction adds. It reports whether the message
// with the id is one.
func (a *arrival) compareFresh(chat int64, id uint32, p *pending) bool {
	for m := range a.freshOf(chat) {
		if m.ID != id {
			continue
		}
		if m.From == p.m.From && m.SentAs == p.m.SentAs && m.Type == p.m.Type &&
			m.Created >= p.m.ResentSince() && same(m, p.m) {
			p.id, p.duplicate, p.created = id, true, m.Created
		}
		return true
	}
	return false
}

// same reports whether two messages of one type have the same content.
func same(a *arrivals.Message, b *im.Message) bool {
	if isAudio(b.Type) {
		return a.Audio.Size == b.Audio.Size && a.Audio.Duration == b.Audio.Duration
	}
	return bytes.Equal(a.Data, b.Data)
}

// note remembers a message that was stored.
func (r *resends) note(key int64, p *pending) {
	r.Note(key, p.id, numbering.Key{From: p.m.From, SentAs: p.m.SentAs}, p.m.Created)
}

// read reads how the last messages of a relation or group were numbered: those of the table, and
// those that the transaction adds.
func (in *resendsIn) read(relation int64, last uint32,
	fresh iter.Seq[*arrivals.Message]) (*numbering.List, error) {
	first := last - min(last, numbering.LookBack) + 1
	list := numbering.NewList(first)
	rows, err := in.numbered.Query(messageKey(relation, first), messageKey(relation, last))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var key numbering.Key
		var created uint32
		if err := rows.Scan(&id, &key.From, &key.SentAs, &created); err != nil {
			return nil, err
		}
		list.Add(uint32(id), key, created)
	}
	for m := range fresh {
		if m.ID > list.Last() {
			list.Add(m.ID, numbering.Key{From: m.From, SentAs: m.SentAs}, m.Created)
		}
	}
	if list.Last() < last {
		list.Add(last, numbering.Key{}, 0) // its row is gone
	}
	return list, rows.Err()
}

// compare sets p.id, p.duplicate and p.created when the message with an id has the content of p.
func (in *resendsIn) compare(relation int64, id uint32, p *pending) error {
	rows, err := in.find.Query(messageKey(relation, id), p.m.From, p.m.SentAs, p.m.Type,
		p.m.ResentSince())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var content sql.RawBytes
		var created, size, duration uint32
		if err := rows.Scan(&content, &created, &size, &duration); err != nil {
			return err
		}
		same := bytes.Equal(content, p.m.Data)
		if isAudio(p.m.Type) {
			same = size == p.m.Audio.Size && duration == p.m.Audio.Duration
		}
		if same {
			p.id, p.duplicate, p.created = id, true, created
		}
	}
	return rows.Err()
}
