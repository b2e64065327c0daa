package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

// BenchmarkForms stores batches of messages of 88 bytes in each form of transaction, four
// batches at a time. The forms take turns, so that the load of the machine meets all.
//
//	go test ./sql/store -run '^$' -bench Forms -benchtime 2000x
func BenchmarkForms(b *testing.B) {
	const pairs = 50
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, 2*workers*pairs)
	body := []byte(strings.Repeat("x", 88))
	for _, size := range []int{16, 256} {
		for range 2 {
			for name, f := range map[string]database.Form{"packet": database.FormPacket,
				"block":  database.FormBlock,
				"single": database.FormSingle} {
				b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
					setForm(b, s, f)
					appendBatches(b, s, size, func(w, n int) []*im.Message {
						list := make([]*im.Message, size)
						now := uint32(time.Now().Unix())
						for i := range list {
							p := 2 * (w*pairs + (n*size+i)%pairs)
							list[i] = &im.Message{From: u[p], To: u[p+1], Created: now,
								Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: body}
						}
						return list
					})
				})
			}
		}
	}
}

// setForm sets the form of transactions on all connections of the pool.
func setForm(t testing.TB, s *Store, f database.Form) {
	t.Helper()
	for range s.o.Workers {
		conn, err := s.db.Master.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() // at the end, so that each connection is taken once
		if err := database.SetForm(conn, f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForms stores messages in each form of transaction, a packet of 1 MiB included. A
// transaction that ends before its COMMIT must not be acked, nor anything after its end
// be stored.
func TestForms(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]database.Form{"packet": database.FormPacket,
		"block":  database.FormBlock,
		"single": database.FormSingle} {
		t.Run(name, func(t *testing.T) {
			s := newEnvT(t).store(t)
			u := users(t, s, 2)
			setForm(t, s, f)
			var batch []*im.Message
			for i := range 600 { // more than a packet
				batch = append(batch, text(u[0], u[1], fmt.Sprint(i, strings.Repeat("x", 4000))))
			}
			sound := text(u[0], u[1], "")
			sound.Type, sound.Audio = pb.MsgType_MSG_TYPE_SINGLE_AUDIO, &im.Audio{Path: "p"}
			send(t, s, append(batch, sound)...)
			wantIDs(t, s, u[0], u[1], 1, 601)
		})
	}
}

// TestCommitProvesItsTransaction ends the transaction of a batch behind its back, as a node
// of a Galera cluster does, and requires that the commit fails.
func TestCommitProvesItsTransaction(t *testing.T) {
	for name, f := range map[string]database.Form{"block": database.FormBlock,
		"single": database.FormSingle} {
		t.Run(name, func(t *testing.T) {
			s := newEnvT(t).store(t)
			u := users(t, s, 2)
			setForm(t, s, f)
			ended := 0
			s.db.Hooks.BeforeCommit = func(ctx context.Context, conn *sql.Conn) {
				if ended++; ended == 1 {
					database.RollBack(ctx, conn)
				}
			}
			send(t, s, texts(u[0], u[1], 3)...)
			if ended != 2 {
				t.Errorf("%d tries, want 2", ended)
			}
			wantIDs(t, s, u[0], u[1], 1, 3)
			if n := unreadOf(t, s, u[1], u[0]); n != 3 {
				t.Errorf("unread %d, want 3", n)
			}
		})
	}
}
