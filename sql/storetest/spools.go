package storetest

import (
	"strings"
	"time"

	"teamtalk/core/im"
)

// owner returns the process of a file server with a spool, before it has a lease.
func owner(spool byte) im.SpoolOwner {
	return im.SpoolOwner{Server: "10.0.0.9:8600", Spool: [16]byte{spool}, Lease: time.Hour}
}

// keep takes or renews a lease, which gives the epoch want; 0: another has it.
func (f *fixture) keep(what string, o *im.SpoolOwner, want uint64) {
	f.Helper()
	epoch, err := f.s.KeepSpool(f.ctx, *o)
	if err != nil || epoch != want {
		f.Fatalf("%s: epoch %d, %v, want %d", what, epoch, err, want)
	}
	if epoch > 0 {
		o.Epoch = epoch
	}
}

func fileForgotten(f *fixture) {
	u := f.users(3)
	a := owner('a')
	f.keep("the first", &a, 1)
	forget := func(what string, from, to uint32, task string, want bool) {
		f.Helper()
		gone, err := f.s.ForgetOfflineFile(f.ctx, a, from, to, task)
		if gone != want || err != nil {
			f.Errorf("%s: %v, %v, want %v", what, gone, err, want)
		}
	}
	f.addFile(u[0], u[1], task(1))
	f.addFile(u[0], u[1], task(2))
	for _, pair := range [][2]uint32{{u[1], u[0]}, {u[2], u[1]}, {u[0], u[2]},
		{0, u[1]}, {u[0], 0}} {
		forget("of others", pair[0], pair[1], task(1), false)
	}
	for _, none := range []string{"", task(3), "\xff", "../x", strings.Repeat("x", 1<<16)} {
		forget("what is not there", u[0], u[1], none, false)
	}
	f.wantFiles("nothing forgotten", u[1], task(1), task(2))
	forget("one", u[0], u[1], task(1), true)
	forget("once more", u[0], u[1], task(1), false)
	f.wantFiles("one forgotten", u[1], task(2))
	f.addFile(u[0], u[1], task(1))
	f.wantFiles("noted again", u[1], task(2), task(1))
	// A file that its receiver has removed stays removed.
	f.check("DeleteOfflineFile", f.s.DeleteOfflineFile(f.ctx, u[0], u[1], task(2)))
	forget("taken off", u[0], u[1], task(2), false)
	f.addFile(u[0], u[1], task(2))
	f.reopen()
	f.wantFiles("reopened", u[1], task(1))
}

// fileFenced: of two spools with one address the first forgets files alone, and of two processes
// of a spool the later one.
func fileFenced(f *fixture) {
	u := f.users(2)
	f.addFile(u[0], u[1], task(1))
	forget := func(what string, o im.SpoolOwner, want bool) {
		f.Helper()
		gone, err := f.s.ForgetOfflineFile(f.ctx, o, u[0], u[1], task(1))
		if gone != want || !want && im.KindOf(err) != im.Denied || want && err != nil {
			f.Errorf("%s: %v, %v, want %v", what, gone, err, want)
		}
		if want {
			f.addFile(u[0], u[1], task(1))
		}
		f.wantFiles(what, u[1], task(1))
	}
	a, b := owner('a'), owner('b')
	forget("nobody has the lease", a, false)
	guessed := a
	guessed.Epoch = 1
	forget("nobody has had it", guessed, false)
	f.keep("the first", &a, 1)
	f.keep("the first again", &a, 1)
	f.keep("another spool", &b, 0)
	forget("the first", a, true)
	forget("another spool", b, false)
	guessed.Spool = b.Spool
	forget("another spool with the epoch", guessed, false)

	elsewhere := owner('b')
	elsewhere.Server = strings.Repeat("x", 200) + ":8600"
	f.keep("at another address", &elsewhere, 1)
	forget("at another address", elsewhere, true) // file servers know their own ids

	restarted := owner('a')
	f.keep("a later process of the spool", &restarted, 2)
	f.keep("the process before it", &a, 0)
	forget("the later process", restarted, true)
	forget("the process before it, which was paused", a, false)

	restarted.Lease = time.Second
	f.keep("a short lease", &restarted, 2)
	b.Lease = time.Second
	for deadline := time.Now().Add(time.Minute); b.Epoch == 0; time.Sleep(20 * time.Millisecond) {
		epoch, err := f.s.KeepSpool(f.ctx, b) // polls the clock of the store
		f.check("KeepSpool", err)
		if b.Epoch = epoch; time.Now().After(deadline) {
			f.Fatal("the lease does not end")
		}
	}
	if b.Epoch != 3 {
		f.Errorf("epoch %d of the next holder", b.Epoch)
	}
	forget("a paused holder", restarted, false)
	forget("the next holder", b, true)
}

// fileOwners: an owner without an address or with a lease that is too long is refused.
func fileOwners(f *fixture) {
	for what, o := range map[string]im.SpoolOwner{
		"no address": {Lease: time.Hour}, "no lease": {Server: "x"},
		"a long lease":   {Server: "x", Lease: im.MaxSpoolLease + time.Second},
		"a long address": {Server: strings.Repeat("x", 262), Lease: time.Hour}} {
		if _, err := f.s.KeepSpool(f.ctx, o); im.KindOf(err) != im.Invalid {
			f.Errorf("%s: %v", what, err)
		}
	}
}
