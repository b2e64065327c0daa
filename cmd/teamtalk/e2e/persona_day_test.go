//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"slices"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/persona"
	"teamtalk/proto/pb"
)

// Limits of the day.
const (
	// longWait is the day's msg.ack_wait until its outages: an ack that waits for a
	// receiver that never answers cannot be mistaken for a slow one.
	longWait = 45 * time.Second
	// slowAck is longer than any ack takes on a loaded machine while all servers run: 1.7 s
	// on two cores with a load average of 33.
	slowAck = 30 * time.Second
	// redeliverAfter is longer than a client takes to ack a message on such a machine.
	redeliverAfter = 30 * time.Second
	// mostLogins is the largest number of login requests of one client during the day.
	mostLogins = 10
)

// TestPersonaDay runs a day with every client on both sides: each sends to each. Every
// client shows all messages once and in order, no ack waits for a receiver that never
// answers, and no client logs in again and again.
func TestPersonaDay(t *testing.T) {
	t.Parallel()
	s := settings{users: 2 * len(persona.All()), pages: true, files: true, small: true, races: true,
		flags: []string{"--msg.ack-wait", longWait.String(), "--msg.redeliver-after",
			redeliverAfter.String(), "--msg.rate", "0"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		d := newDay(t, sys)
		d.live([]part{
			{"contacts", (*day).contacts}, {"texts", (*day).singleTexts},
			{"open chats", (*day).openChats}, {"group", (*day).groupTexts},
			{"own copies", (*day).ownCopies}, {"sounds", (*day).sounds},
			{"pictures", (*day).pictures}, {"files", (*day).offlineFiles},
			{"read", (*day).readAll}, {"acks", (*day).acks},
			{"outages", (*day).outages}, {"kicks", (*day).kicks},
			{"relogin", (*day).relogin},
		})
		d.moderate()
	})
}

// contacts checks that all clients have all contacts, and that Windows has the status of
// users.
func (d *day) contacts() {
	d.t.Helper()
	for _, c := range d.all() {
		if got, want := c.Users(), 2*len(d.left); got != want {
			d.t.Errorf("%s has %d contacts of %d", c.Name(), got, want)
		}
	}
	ids := []uint32{d.right[0].Self(), d.right[2].Self()} // windows and ios
	for _, c := range d.left {
		req := pb.IMUsersInfoReq_builder{UserId: new(c.Self()), UserIdList: ids}.Build()
		infos := ask[*pb.IMUsersInfoRsp](d, c, req).GetUserInfoList()
		if len(infos) != len(ids) {
			d.t.Errorf("%s: infos of %d users, want %d", c.Name(), len(infos), len(ids))
		}
	}
	windows := d.left[0]
	until(d.t, "windows to have the status of the others", func() bool {
		return windows.Status(ids[0]) != 0 && windows.Status(ids[1]) != 0
	})
	// The status is that of the pc: a user with only a phone is offline.
	const online, offline = pb.UserStatType_USER_STATUS_ONLINE, pb.UserStatType_USER_STATUS_OFFLINE
	pc, phone := windows.Status(ids[0]), windows.Status(ids[1])
	if pc != online || phone != offline {
		d.t.Errorf("windows sees a pc as %v and a phone as %v", pc, phone)
	}
}

// singleTexts lets each client of the left write to each of the right, and then each of
// the right answer.
func (d *day) singleTexts() {
	d.t.Helper()
	for range 2 {
		for _, l := range d.left {
			for _, r := range d.right {
				d.sendText(l, user(r))
			}
		}
		d.quiet("texts")
		for _, r := range d.right {
			for _, l := range d.left {
				d.sendText(r, user(l))
			}
		}
		d.quiet("answers")
	}
}

// openChats repeats singleTexts with the conversations open: each message is read at
// once.
func (d *day) openChats() {
	d.t.Helper()
	for _, l := range d.left {
		for _, r := range d.right {
			r.Open(user(l))
			l.Open(user(r))
		}
	}
	d.singleTexts()
	for _, l := range d.left {
		for _, r := range d.right {
			r.CloseChat(user(l))
			l.CloseChat(user(r))
		}
	}
}

// groupTexts creates a group of all users, to which each of them writes.
func (d *day) groupTexts() {
	d.t.Helper()
	var members []uint32
	for _, c := range slices.Concat(d.left, d.right) {
		members = append(members, c.Self())
	}
	boss := d.left[0]
	rsp := ask[*pb.IMGroupCreateRsp](d, boss, pb.IMGroupCreateReq_builder{
		UserId: new(boss.Self()), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(),
		GroupName: new("a day"), GroupAvatar: new(""), MemberIdList: members}.Build())
	if rsp.GetResultCode() != 0 {
		d.t.Fatalf("group not created: %d", rsp.GetResultCode())
	}
	d.group = persona.Peer{ID: rsp.GetGroupId(), Group: true}
	for range 2 {
		for _, c := range slices.Concat(d.left, d.right) {
			d.sendText(c, d.group)
		}
		d.quiet("group texts")
	}
}

// ownCopies lets the second devices of the left write. The first devices show the
// messages too.
func (d *day) ownCopies() {
	d.t.Helper()
	for i, c := range d.second {
		for _, r := range d.right {
			d.sendText(c, user(r))
		}
		d.sendText(c, d.group)
		d.sendText(d.left[i], d.group)
	}
	d.quiet("own copies")
}

// sounds sends a sound from each to each.
func (d *day) sounds() {
	d.t.Helper()
	for i, l := range d.left {
		for j, r := range d.right {
			data := binary.BigEndian.AppendUint32(nil, 3)
			data = append(data, bytes.Repeat([]byte{byte(i), byte(j)}, 500)...)
			l.Send(user(r), pb.MsgType_MSG_TYPE_SINGLE_AUDIO, data)
		}
	}
	d.quiet("sounds")
}

// picture returns a grey JPEG of 400 × 300.
func picture(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 400, 300)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pictures sends a picture from each to each, and sets avatars.
func (d *day) pictures() {
	d.t.Helper()
	photo := picture(d.t)
	for _, l := range d.left {
		url, err := l.Upload("photo_400x300.jpg", photo)
		if err != nil {
			d.t.Errorf("%s: %v", l.Name(), err)
			continue
		}
		for _, r := range d.right {
			r, text := r, "&$#@~^@[{:"+url+":}]&$~@#@ "+l.Name()
			l.Text(user(r), d.cipher.Encrypt(text))
			if got, err := r.Picture(url); err != nil || !bytes.Equal(got, photo) {
				d.t.Errorf("%s fetches the picture of %s: %d bytes of %d, %v", r.Name(), l.Name(),
					len(got), len(photo), err)
			}
			if err := r.Avatar(url); err != nil {
				d.t.Errorf("%s fetches the avatar of %s: %v", r.Name(), l.Name(), err)
			}
		}
		rsp := ask[*pb.IMChangeAvatarRsp](d, l, pb.IMChangeAvatarReq_builder{
			UserId: new(l.Self()), AvatarUrl: &url}.Build())
		if rsp.GetResultCode() != 0 {
			d.t.Errorf("%s: avatar refused: %d", l.Name(), rsp.GetResultCode())
		}
	}
	d.quiet("pictures")
}

// offlineFiles sends a file from each client that sends files to each that receives them.
func (d *day) offlineFiles() {
	d.t.Helper()
	data := bytes.Repeat([]byte("file "), 20_000)
	for _, l := range d.left {
		for _, r := range d.right {
			if !l.Persona().Files || !r.Persona().Files {
				continue
			}
			name := l.Persona().Name + ".txt"
			if err := l.SendFile(bounded(d.t), r.Self(), name, data); err != nil {
				d.t.Errorf("%s sends a file: %v", l.Name(), err)
				continue
			}
			var notice *pb.IMFileNotify
			until(d.t, r.Name()+" to be notified of "+name, func() bool {
				for _, n := range r.Notices() {
					if n.GetFileName() == name && n.GetOfflineReady() == 1 {
						notice = n
					}
				}
				return notice != nil
			})
			got, err := r.FetchFile(bounded(d.t), notice)
			if err != nil || !bytes.Equal(got, data) {
				d.t.Errorf("%s fetches %s: %d bytes, want %d, %v", r.Name(), name, len(got),
					len(data), err)
			}
		}
	}
}

// readAll opens every conversation on every client. Then no message is unread at the
// server, and read acks did not multiply.
func (d *day) readAll() {
	d.t.Helper()
	for _, c := range d.all() {
		for _, o := range slices.Concat(d.left, d.right) {
			if p := user(o); len(c.Shown(p)) > 0 {
				c.Open(p)
				c.CloseChat(p)
			}
		}
		c.Open(d.group)
		c.CloseChat(d.group)
	}
	for _, c := range d.all() {
		until(d.t, c.Name()+" to have read everything", func() bool {
			req := pb.IMUnreadMsgCntReq_builder{UserId: new(c.Self())}.Build()
			return ask[*pb.IMUnreadMsgCntRsp](d, c, req).GetTotalCnt() == 0
		})
	}
	for _, c := range d.all() {
		// A client sends one read ack for each message, for each conversation that it
		// opens, and for each of its other devices. More are an echo.
		s := c.Stats()
		if most := 4 * (s.Pushed + 8*len(d.left)); s.ReadAcks > most {
			d.t.Errorf("%s sent %d read acks, received %d notifies", c.Name(), s.ReadAcks,
				s.ReadNotify)
		}
	}
}

// acks checks that no ack waited for a receiver that never answers, and that no message
// was delivered twice.
func (d *day) acks() {
	d.t.Helper()
	var took []time.Duration
	for _, c := range d.all() {
		slow := 0
		for _, s := range c.Sends() {
			took = append(took, s.Took)
			if s.Took > slowAck {
				slow++
			}
		}
		if slow > 0 {
			d.t.Errorf("%s: %d acks took more than %v", c.Name(), slow, slowAck)
		}
		if n := c.Stats().Repeated; n > 0 {
			d.t.Errorf("%s: %d messages delivered twice", c.Name(), n)
		}
	}
	d.ordered()
	slices.Sort(took)
	d.t.Logf("%d acks: median %v, p99 %v, max %v", len(took), took[len(took)/2],
		took[len(took)*99/100], took[len(took)-1])
	for _, m := range d.messageServers() {
		if n := m.metric("teamtalk_msg_ack_timeouts_total", ""); n > 0 {
			d.t.Errorf("%s: %v acks waited %v in vain", m.name, n, longWait)
		}
		if n := m.metric("teamtalk_msg_redelivered_total", ""); n > 0 {
			d.t.Errorf("%s: %v messages delivered again", m.name, n)
		}
	}
}

// ordered checks that messages were delivered in the order of their ids.
func (d *day) ordered() {
	d.t.Helper()
	for _, c := range d.all() {
		if n := c.Stats().Disordered; n > 0 {
			d.t.Errorf("%s: %d messages delivered after a newer one", c.Name(), n)
		}
	}
}

// messageServers returns the processes of the message servers.
func (d *day) messageServers() []*server {
	return slices.Compact(slices.Clone(d.sys.msg[:]))
}

// outages kills each server in turn while users write, and starts it again.
func (d *day) outages() {
	d.t.Helper()
	d.fastOutages()
	for _, s := range d.sys.servers {
		d.outage(s)
	}
}

// fastOutages lets the message servers wait for acks as by default when they start again.
func (d *day) fastOutages() {
	for _, m := range d.sys.msg {
		m.extra = []string{"--msg.ack-wait", "2s", "--msg.redeliver-after", "10s"}
	}
}

// outage kills a server while users write, and starts it again.
func (d *day) outage(s *server) {
	d.t.Helper()
	began := time.Now()
	cut := d.connectionsTo(s)
	s.kill()
	for i, l := range d.left {
		d.sendText(l, user(d.right[i]))
		d.sendText(d.right[i], user(l))
	}
	s.start()
	for _, o := range d.sys.servers {
		o.awaitReady()
	}
	ready := time.Now()
	d.awaitNoticed("the end of "+s.name, cut)
	logIn(d.t, d.all()...)
	d.lost(s.name, ready)
	d.checkOnce("outage of " + s.name)
	d.checked()
	// These texts use other conversations: where a message was not stored, the server
	// waits until its sender repeats it, as Windows does.
	for i, l := range d.left {
		r := d.right[(i+1)%len(d.right)]
		d.sendText(l, user(r))
		d.sendText(d.second[i], user(r))
		d.sendText(r, user(l))
	}
	d.quiet("after the outage of " + s.name)
	d.t.Logf("outage of %s: %.1f s", s.name, time.Since(began).Seconds())
}

// awaitNoticed waits until clients have noticed the end of a connection: until then they are online
// by their own state, and what they ask gets no answer. cut has the number of connections that
// each had made before.
func (d *day) awaitNoticed(what string, cut map[*persona.Client]int) {
	d.t.Helper()
	until(d.t, "all clients to notice "+what, func() bool {
		for c, before := range cut {
			if s := c.Stats(); s.Connections == before && c.State() != persona.Stopped {
				return false
			}
		}
		return true
	})
}

// connectionsTo returns the clients connected to a server, with the number of connections
// each made.
func (d *day) connectionsTo(s *server) map[*persona.Client]int {
	cut := map[*persona.Client]int{}
	for _, c := range d.all() {
		if i := d.sys.at(c.Addr()); i >= 0 && d.sys.msg[i] == s {
			cut[c] = c.Stats().Connections
		}
	}
	return cut
}

// lost waits until each message sent during an outage has an ack. It does not wait for a
// client that never repeats a message. A client repeats a message once, so lost does not
// wait for a message either that was repeated before all servers were ready again, or on a
// connection that has ended.
func (d *day) lost(server string, ready time.Time) {
	d.t.Helper()
	until(d.t, "the messages during the outage of "+server+" to be settled", func() bool {
		for _, c := range d.all() {
			for _, s := range c.Sends() {
				gaveUp := s.Resent && (s.Gone || s.Again.Before(ready))
				if s.ID == 0 && c.Persona().Resend > 0 && !gaveUp {
					return false
				}
			}
		}
		return true
	})
}

// kicks logs in as each user of the left from another machine. Clients that obey stop.
func (d *day) kicks() {
	d.t.Helper()
	for i, l := range d.left {
		row := l.Persona()
		if row.Kicked == persona.KickIgnored {
			continue // twoWebTabs tries these clients
		}
		other := startPersona(d.t, d.sys, row, persona.Options{User: fmt.Sprintf("u%05d", 1+i)})
		logIn(d.t, other)
		until(d.t, l.Name()+" to stop", func() bool { return l.State() == persona.Stopped })
		if s := l.Stats(); s.Kicks != 1 {
			d.t.Errorf("%s was kicked %d times", l.Name(), s.Kicks)
		}
		other.Close()
	}
	phone, pc := d.second[0], d.left[0]
	logIn(d.t, phone, pc)
	req := pb.IMKickPCClientReq_builder{UserId: new(pc.Self())}.Build()
	ask[*pb.IMKickPCClientRsp](d, phone, req)
	until(d.t, pc.Name()+" to stop", func() bool { return pc.State() == persona.Stopped })
}

// relogin reconnects all clients, and checks the history of the whole day.
func (d *day) relogin() {
	d.t.Helper()
	cut := map[*persona.Client]int{}
	for _, c := range d.all() {
		cut[c] = c.Stats().Connections
		c.Drop()
	}
	for i, l := range d.left { // while some or all clients are offline
		d.sendText(d.right[i], user(l))
	}
	d.checked()
	d.awaitNoticed("that they were dropped", cut)
	logIn(d.t, d.all()...)
	clear(d.from)
	for _, c := range d.all() {
		peers := []persona.Peer{d.group}
		for _, o := range slices.Concat(d.left, d.right) {
			if o.Self() != c.Self() {
				peers = append(peers, user(o))
			}
		}
		for _, p := range peers {
			if err := c.History(bounded(d.t), p); err != nil {
				d.t.Fatalf("%s: history of %v: %v", c.Name(), p, err)
			}
		}
	}
	d.awaitShown("the whole day", false)
	// With two message servers in one conversation, clients order the messages by id.
	if !d.sys.separate {
		d.ordered()
	}
	for _, c := range d.all() {
		for _, f := range c.Faults() {
			d.t.Errorf("%s: %s", c.Name(), f)
		}
	}
}

// moderate checks that no client sent more than mostLogins login requests.
func (d *day) moderate() {
	d.t.Helper()
	for _, c := range d.all() {
		if s := c.Stats(); s.Logins > mostLogins {
			d.t.Errorf("%s sent %d login requests, and was refused %d times", c.Name(), s.Logins,
				s.Refusals)
		}
	}
}
