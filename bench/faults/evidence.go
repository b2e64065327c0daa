package faults

import (
	"context"
	"fmt"
	"slices"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// marks are the highest message ids of conversations.
type marks map[Conv]uint32

// phone is the kind of the connections that ask for data: they have another device class
// than the clients, and kick none.
const phone = pb.ClientType_CLIENT_TYPE_IOS

// begin returns the marks after which the messages of a row follow. All users read up to
// them.
func (r *run) begin(ctx context.Context) (marks, error) {
	rows, err := r.tables.Messages(ctx)
	if err != nil {
		return nil, err
	}
	base := marks{}
	for c, list := range rows {
		if len(list) > 0 {
			base[c] = list[len(list)-1].ID
		}
	}
	return base, r.forEachUser(ctx, func(ctx context.Context, conn *tcp.Conn, m Member) error {
		for c := range r.members {
			if !r.in(c, m) || base[c] == 0 {
				continue
			}
			peer := peerFor(c, m.User)
			err := conn.Send(pb.IMMsgDataReadAck_builder{UserId: new(m.User),
				SessionId: new(peer.ID), MsgId: new(base[c]),
				SessionType: peer.SessionType().Enum()}.Build(), 0)
			if err != nil {
				return err
			}
		}
		var list []im.Unread
		none := r.until(ctx, pollPause, func() bool {
			list, err = client.Unread(ctx, conn)
			return err != nil || len(list) == 0
		})
		if err == nil && !none {
			err = fmt.Errorf("%s has read everything, and has the unread messages %+v", m.Client,
				list)
		}
		return err
	})
}

// in reports whether a client is in a conversation.
func (r *run) in(c Conv, m Member) bool { return slices.Contains(r.members[c], m) }

// forEachUser calls do with a connection of each user, one after the other. It tries again
// while the servers are not ready.
func (r *run) forEachUser(ctx context.Context,
	do func(context.Context, *tcp.Conn, Member) error) error {
	for i, c := range r.clients {
		var err error
		r.until(ctx, time.Second, func() bool {
			var conn *tcp.Conn
			if conn, err = r.login(ctx, i+1, phone); err != nil {
				return false
			}
			defer conn.Close()
			err = do(ctx, conn, Member{r.names[i], c.id()})
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// check gathers the evidence and compares it with the ledger. It tries again, at most for
// Settle, while a part is wrong that follows the messages: histories read from a replica,
// counts of unread messages and lists of members.
func (r *run) check(ctx context.Context, l *Ledger, base marks) (counts Counts, err error) {
	r.until(ctx, time.Second, func() bool {
		var e Evidence
		if e, err = r.evidence(ctx, base); err != nil {
			return false
		}
		counts = l.Check(e)
		return counts.Lost+counts.Unread+counts.Members == 0
	})
	return counts, err
}

// evidence reads the tables and asks the servers, as each user.
func (r *run) evidence(ctx context.Context, base marks) (Evidence, error) {
	e := Evidence{Members: r.members, Tables: map[Conv][]Message{}}
	rows, err := r.tables.Messages(ctx)
	if err != nil {
		return e, err
	}
	for c, list := range rows {
		if r.services.Owns(c.A, c.B) {
			continue
		}
		for _, m := range list {
			if m.ID <= base[c] {
				continue
			}
			text, err := r.cipher.Decrypt(m.Content)
			if err != nil {
				text = fmt.Sprintf("%q", m.Content)
			}
			e.Tables[c] = append(e.Tables[c], Message{m.ID, m.From, text})
		}
	}
	if m, sure := r.churn.membership(); sure {
		e.Membership = append(e.Membership, m)
	}
	users, err := r.tables.Members(ctx, r.churn.group)
	if err != nil {
		return e, err
	}
	e.Membership = append(e.Membership, Membership{"the tables", r.churn.group, users})
	err = r.forEachUser(ctx, func(ctx context.Context, conn *tcp.Conn, m Member) error {
		views, err := r.viewsOf(ctx, conn, m, base)
		if err != nil {
			return err
		}
		infos, err := client.GroupInfos(ctx, conn, []im.GroupVersion{{ID: r.churn.group}})
		if err != nil {
			return err
		}
		e.Views = append(e.Views, views...)
		for _, g := range infos {
			e.Membership = append(e.Membership, Membership{m.Client, g.ID, g.Members})
		}
		return nil
	})
	return e, err
}

// viewsOf returns a user's view of its conversations.
func (r *run) viewsOf(ctx context.Context, conn *tcp.Conn, m Member, base marks) ([]View, error) {
	unread, err := client.Unread(ctx, conn)
	if err != nil {
		return nil, err
	}
	var views []View
	for c := range r.members {
		if !r.in(c, m) {
			continue
		}
		// The last message of a member counts as read up to there, so only the counts of
		// members that write nothing are compared in a group.
		v := View{Member: m, Conv: c, CountUnread: c.Group == 0 || r.readers[m.User]}
		if v.History, err = r.history(ctx, conn, c, base[c]); err != nil {
			return nil, err
		}
		peer := peerFor(c, m.User)
		for _, u := range unread {
			if u.Peer == peer.ID && u.Type == peer.SessionType() {
				v.Unread = u.Count
			}
		}
		views = append(views, v)
	}
	return views, nil
}

// history returns the messages of a conversation after an id, oldest first.
func (r *run) history(ctx context.Context, conn *tcp.Conn, c Conv, base uint32) ([]Message, error) {
	var all []Message
	for begin := uint32(0); ; {
		page, err := client.History(ctx, conn, peerFor(c, conn.UserID()), begin, 100)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			if m.ID <= base {
				continue
			}
			text, err := r.cipher.Decrypt(m.Data)
			if err != nil {
				text = fmt.Sprintf("%q", m.Data)
			}
			all = append(all, Message{m.ID, m.From, text})
		}
		if len(page) == 0 || page[len(page)-1].ID <= base+1 {
			break
		}
		begin = page[len(page)-1].ID - 1
	}
	slices.Reverse(all)
	return all, nil
}
