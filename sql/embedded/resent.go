package embedded

import (
	"bytes"
	"database/sql"
)

// A client without client_msg_ids sends a message again on a new connection when it got no
// ack for it. The row of a message has what the client numbered it as.

// lookBack is how many of the last messages of a conversation are searched for a message
// that was sent before. In the seconds concerned a connection sends fewer.
const lookBack = 1024

// resentQuery finds the messages of a sender that are numbered alike, by table and column
// of the sender. The content of an audio message is the id of its sound.
const resentQuery = `select m.id, m.content, m.created, coalesce(a.size, 0), coalesce(a.duration, 0)
	from %s m left join IMAudio a on m.type in (2, 18) and a.id = cast(m.content as integer)
	where m.id between ? and ? and m.%s = ? and m.sentAs = ? and m.type = ? and m.created >= ?
	and m.status = 0 order by m.id`

// recogniseResent sets p.id, p.duplicate and p.created when its sender sent p before, in
// the relation or group with that last message.
func (w *writer) recogniseResent(relation int64, last uint32, p *pending) error {
	stmt := w.findResent
	if p.m.Type.IsGroup() {
		stmt = w.findGroupResent
	}
	first := last - min(last, lookBack)
	rows, err := stmt.Query(messageKey(relation, first), messageKey(relation, last), p.m.From,
		p.m.SentAs, p.m.Type, p.m.ResentSince())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() && !p.duplicate {
		var id int64
		var content sql.RawBytes
		var created, size, duration uint32
		if err := rows.Scan(&id, &content, &created, &size, &duration); err != nil {
			return err
		}
		p.duplicate = bytes.Equal(content, p.m.Data)
		if isAudio(p.m.Type) {
			p.duplicate = size == p.m.Audio.Size && duration == p.m.Audio.Duration
		}
		p.id = uint32(id)
		if p.duplicate {
			p.created = created
		}
	}
	return rows.Err()
}
