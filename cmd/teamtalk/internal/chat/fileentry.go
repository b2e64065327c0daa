package chat

import (
	"fmt"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/transfer"
)

// States of a file. JSON uses the same words.
const (
	FileComing    = "coming"    // the sender is uploading it to the server
	FileOffered   = "offered"   // the sender is online and waits for the receiver to fetch it
	FileWaiting   = "waiting"   // the server keeps it
	FileSending   = "sending"   // this session uploads it
	FileFetching  = "fetching"  // this session downloads it
	FileDone      = "done"      // sent: at the server or the receiver; fetched: on this disk
	FileCancelled = "cancelled" // by either side
	fileRefused   = "refused"   // by the receiver
	FileFailed    = "failed"    // Err says why
	FilePaused    = "paused"    // continues after the next login
)

// FileEntry is a file of the session. The desk returns copies.
type FileEntry struct {
	N      int // number by which users and programs name the file, from 1
	File   transfer.File
	Name   string // safe to show, and as the name of a file
	Mine   bool   // sent by the user, not received
	State  string
	Moved  int64   // bytes
	Rate   float64 // bytes a second, since the first bytes of this session
	Path   string  // of the file that is sent, or was fetched
	Err    error   // of a failed transfer
	Listed bool    // in an answer of the server, not in an event
}

// over reports whether the state cannot change any more.
func (e FileEntry) over() bool {
	switch e.State {
	case FileDone, FileCancelled, fileRefused, FileFailed:
		return true
	}
	return false
}

// Text returns the name of the file and its size.
func (e FileEntry) Text() string { return e.Name + " (" + FileSize(e.File.Size) + ")" }

// Other returns the user on the other side: the receiver, or the sender.
func (e FileEntry) Other() client.Peer {
	if e.Mine {
		return client.Peer{ID: e.File.To}
	}
	return client.Peer{ID: e.File.From}
}

// FileSize returns a number of bytes for people. It holds no lower-case m: see the
// terminal's screen.mark.
func FileSize(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 999_950:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	case n < 999_950_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// pace measures the speed of a transfer. The time before the first bytes does not count:
// the other side may not have accepted the file yet.
type pace struct{ since time.Time }

// rate returns the bytes a second when carried bytes have been moved at now; 0 while the
// rate is unknown.
func (p *pace) rate(now time.Time, carried int64) float64 {
	past := now.Sub(p.since).Seconds()
	switch {
	case carried == 0:
		p.since = now
		return 0
	case past <= 0:
		return 0
	}
	return float64(carried) / past
}
