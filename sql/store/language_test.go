package store

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"teamtalk/core/im"
)

// TestResendsInAnotherLanguage stores each client_msg_id through two stores at once, whose
// DSN asks for error texts in German. The loser learns from such a text that the message
// is stored, and must be acked with its id.
func TestResendsInAnotherLanguage(t *testing.T) {
	const resends = 50
	e := newEnv(t)
	u := users(t, e.store(t), 2)
	e.o.Master = addParams(e.dsn, "lc_messages=%27de_DE%27")
	stores := []*Store{e.store(t), e.store(t)}
	for n := range resends {
		var both [2]*im.Message
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range both {
			both[i] = text(u[0], u[1], fmt.Sprint("resend ", n))
			both[i].ClientID = fmt.Appendf(nil, "id %d", n)
			wg.Go(func() {
				<-start
				stores[i].AppendMessages(context.Background(), both[i:i+1])
			})
		}
		close(start)
		wg.Wait()
		if both[0].Err != nil || both[1].Err != nil || both[0].ID != both[1].ID {
			t.Errorf("message %d: ids %d and %d, errors %v and %v", n, both[0].ID, both[1].ID,
				both[0].Err, both[1].Err)
		}
	}
}
