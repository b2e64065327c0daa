package msg

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// TestFileNotifyRepeated: the file server repeats the notify of a file that is passed on
// directly. It reaches a client that did not get it, once. A client that logged in later gets
// it only if it recognises a repeated one.
func TestFileNotifyRepeated(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		link := w.h.RouteLink()
		pc, phone := w.user(0, 2, win), w.user(1, 2, ios)
		time.Sleep(10 * time.Second)
		pc.got()
		phone.got()
		at := (&fileStand{ip: "10.0.0.1"}).at()
		first := fileNotify(1, 2, "0123456789", at, onlineMode, 0)
		again := proto.CloneOf(first)
		again.SetAge(5000)
		repeat := func() { link.Message(w.route.s, 0, proto.CloneOf(again)) }
		repeat()
		same(t, pc.want(pb.CmdFileNotify)[0].m, first) // without the age
		phone.want()
		repeat()
		link.Message(w.route.s, 0, proto.CloneOf(first)) // it was overtaken
		pc.want()

		stock := w.user(0, 2, win)
		stock.want()
		repeat()
		stock.want()
		stock.hangUp()
		ours := w.connect(0)
		m := loginReq(2, win)
		m.SetFileRepeats(true)
		ours.send(1, m)
		time.Sleep(6 * time.Second) // a login after a kick waits
		ours.want(pb.CmdLoginRes)
		repeat()
		repeat()
		ours.want(pb.CmdFileNotify)

		// A client that logged in after the transfer began: it was perhaps told elsewhere.
		later := w.user(1, 3, win)
		again.SetToUserId(3)
		again.SetTaskId("other")
		time.Sleep(4 * time.Second)
		repeat()
		later.want()
		time.Sleep(2 * time.Second)
		repeat()
		later.want(pb.CmdFileNotify)
	})
}

// TestFileNotifyLocal: a client on the sender's message server gets the notify once, also
// when the file server repeats it, until it is forgotten because of many others.
func TestFileNotifyLocal(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := w.fileServer("10.0.0.1")
		sender, receiver := w.user(0, 1, win), w.user(1, 2, win)
		receiver.got()
		time.Sleep(time.Second)
		sender.send(7, fileReq(2, onlineMode))
		receiver.want(pb.CmdFileNotify)
		notify := fileNotify(1, 2, f.task(1), f.at(), onlineMode, 0)
		notify.SetAge(0)
		w.h.RouteLink().Message(w.route.s, 0, proto.CloneOf(notify))
		receiver.want()
	})
}
