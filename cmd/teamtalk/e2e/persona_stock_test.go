//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/persona"
	"teamtalk/proto/pb"
)

// TestStockClients tries the behaviour of clients in the field that no specification
// describes.
func TestStockClients(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 8, pages: true}, func(t *testing.T, sys *deployment) {
		for _, c := range []struct {
			name string
			run  func(t *testing.T, sys *deployment)
		}{
			{"two web tabs ignore the kick and reconnect at once", twoWebTabs},
			{"android repeats a refused login at once", refusedAndroid},
			{"android requests changes since a time of its own clock", androidAhead},
			{"windows takes any frame with the seq of its login for the answer", loginSeq},
			{"android expects the echo of a heartbeat within five seconds", echoed},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, sys)
			})
		}
	})
}

// twoWebTabs opens two tabs for one account: each login kicks the other tab.
func twoWebTabs(t *testing.T, sys *deployment) {
	one := startPersona(t, sys, persona.Web(), persona.Options{User: "u00001"})
	logIn(t, one)
	two := startPersona(t, sys, persona.Web(), persona.Options{User: "u00001"})
	until(t, "a first kick", func() bool { return one.Stats().Kicks+two.Stats().Kicks >= 1 })
	began := time.Now()
	const more = 3
	until(t, "more kicks", func() bool { return one.Stats().Kicks+two.Stats().Kicks > more })
	// Of two logins in a row the second waits until 5 s after the kick.
	took := time.Since(began)
	t.Logf("%d kicks in %v: %.1f a second", more, took, more/took.Seconds())
	if least := 5 * time.Second; took < least {
		t.Errorf("%d kicks took less than %v", more, least)
	}
}

// refusedAndroid logs in with a wrong password.
func refusedAndroid(t *testing.T, sys *deployment) {
	began := time.Now()
	c := startPersona(t, sys, persona.Android(), persona.Options{User: "u00002", Password: "no"})
	const refusals = 4
	until(t, "refusals", func() bool { return c.Stats().Refusals >= refusals })
	took := time.Since(began)
	t.Logf("%d refusals in %v: %.1f a second", refusals, took, refusals/took.Seconds())
	if least := 5 * time.Second; took < least { // 0 + 1 + 2 + 3 s, less what one timer is early
		t.Errorf("%d refusals took less than %v", refusals, least)
	}
}

// androidAhead adds a user while a phone is offline whose clock is an hour ahead. The
// phone receives the user with a later login.
func androidAhead(t *testing.T, sys *deployment) {
	c := startPersona(t, sys, persona.Android(), persona.Options{User: "u00003",
		ClockAhead: time.Hour})
	logIn(t, c)
	before := c.Users()
	mustRun(t, append([]string{"user", "add", "newcomer", "--password", "pw"}, sys.store...)...)
	// The phone has now sent a time of its own clock once, and does so with each login.
	until(t, "the phone to have the newcomer", func() bool {
		logins := c.Stats().Logins
		c.Drop()
		until(t, "the phone to reconnect", func() bool {
			return c.Stats().Logins > logins && c.State() == persona.Online
		})
		return c.Users() > before
	})
}

// loginSeq lets another client send commands to Windows, one with the seq of its login.
func loginSeq(t *testing.T, sys *deployment) {
	c := startPersona(t, sys, persona.Windows(), persona.Options{User: "u00004"})
	logIn(t, c)
	w, self := loggedIn(t, sys.msgAddr[1], "u00006", windows)
	for seq := range uint16(10) { // the login has the first of these
		w.send(seq, pb.IMP2PCmdMsg_builder{FromUserId: &self, ToUserId: new(c.Self()),
			CmdMsgData: new("typing")}.Build())
		w.send(seq, text(c.Self(), fmt.Sprint("text ", seq)))
	}
	p := persona.Peer{ID: self}
	until(t, "the texts", func() bool { return len(c.Shown(p)) == 10 })
	for _, f := range c.Faults() {
		t.Errorf("%s: %s", c.Name(), f)
	}
}

// echoed lets Android send heartbeats.
func echoed(t *testing.T, sys *deployment) {
	row := persona.Android()
	row.Heartbeat = time.Second // 150 ms with the pace of these tests
	c := startPersona(t, sys, row, persona.Options{User: "u00007"})
	logIn(t, c)
	until(t, "echoes", func() bool { return c.Stats().Echoes >= 5 })
	if s := c.Stats(); s.Connections != 1 {
		t.Errorf("%+v", s)
	}
}

// TestTwoIOSDevicesAnswerEachOthersReadNotifies logs in two iPhones, which answer a read
// notify with a read ack. The ack moves no read mark, so the server notifies no client
// again.
func TestTwoIOSDevicesAnswerEachOthersReadNotifies(t *testing.T) {
	t.Parallel()
	s := settings{users: 2, flags: []string{"--msg.device-policy", "unlimited"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		var phones []*persona.Client
		for _, addr := range sys.msgAddr {
			phones = append(phones, startPersona(t, sys, persona.IOS(), persona.Options{
				User: "u00001", Addr: addr}))
		}
		logIn(t, phones...)
		w, self := loggedIn(t, sys.msgAddr[0], "u00002", windows)
		w.send(2, text(phones[0].Self(), "read me"))
		p := persona.Peer{ID: self}
		for _, c := range phones {
			until(t, "the text", func() bool { return len(c.Shown(p)) == 1 })
		}
		phones[0].Open(p)
		until(t, "the notify", func() bool { return phones[1].Stats().ReadNotify > 0 })
		// An echo would circulate between two of these requests.
		req := pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(0))}.Build()
		for range 50 {
			for _, c := range phones {
				if _, err := c.Ask(bounded(t), req, pb.CmdUnreadMsgCntRsp); err != nil {
					t.Fatal(err)
				}
			}
		}
		one, two := phones[0].Stats(), phones[1].Stats()
		t.Logf("%d and %d notifies", one.ReadNotify, two.ReadNotify)
		if one.ReadNotify+two.ReadNotify > 1 {
			t.Errorf("%d and %d notifies of one read ack", one.ReadNotify, two.ReadNotify)
		}
	})
}

// TestFramesThatAndroidDrops logs in to a large company, whose list of users is longer
// than the largest frame that Android reads. The server sends the list in parts only to
// clients that read all parts: the others would read the first part only.
func TestFramesThatAndroidDrops(t *testing.T) {
	t.Parallel()
	const users = 3000
	var csv strings.Builder
	csv.WriteString("name,password,nick,domain,email,phone,avatar\n")
	for i := range users {
		fmt.Fprintf(&csv, "w%05d,pw,%s,%s,w%05d@a-long-name.example,1380000%04d,"+
			"http://pictures.example/g0/000/001/%s-%d.jpg\n",
			i, strings.Repeat("n", 20), strings.Repeat("d", 20), i, i, strings.Repeat("p", 32), i)
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	forEachShape(t, settings{csv: file, pages: true}, func(t *testing.T, sys *deployment) {
		var clients []*persona.Client
		for i, row := range persona.All() {
			clients = append(clients, startPersona(t, sys, row, persona.Options{
				User: fmt.Sprintf("w%05d", i)}))
		}
		logIn(t, clients...)
		for _, c := range clients {
			until(t, c.Name()+" to have all contacts", func() bool {
				return c.Users() == users || c.Stats().Dropped > 0
			})
			if s := c.Stats(); c.Users() != users || s.Dropped > 0 || s.LateParts > 0 {
				t.Errorf("%s has %d contacts of %d: %+v", c.Name(), c.Users(), users, s)
			}
		}
	})
}
