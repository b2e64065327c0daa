package im

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// OfflineFile is a file that a file server keeps until the receiver fetches it.
type OfflineFile struct {
	From, To uint32 // users
	Task     string // the file server's id of the transfer, see ValidTaskID
	Name     string // 1 to MaxFileName characters
	Size     uint32 // bytes
	Created  uint32 // unix seconds
}

const (
	// MaxFileName is the longest name of a file, in characters.
	MaxFileName = 255
	// MaxTaskID is the longest id of a transfer, in bytes. File servers generate UUIDs of
	// 36 bytes.
	MaxTaskID = 64
	// MaxOfflineFiles limits the list of files that wait for one user. The oldest are
	// listed. With the longest names the list has about 600 KB, in one frame.
	MaxOfflineFiles = 500
	// MaxFilesBetween is the most files from one user that may wait for another user, so
	// that one sender cannot fill the receiver's list.
	MaxFilesBetween = 100
	// OfflineFilePage is the number of rows that FileStore.OfflineFilePage reads.
	OfflineFilePage = 1000
)

// Results of a request for a transfer that clients can tell their users, besides those of
// pb.FileServerError. To stock clients each is a failure.
const (
	// FileNoRoom: the disk of the file server is nearly full.
	FileNoRoom uint32 = 100
	// FileQuota: the sender's waiting files leave no room for another one.
	FileQuota uint32 = 101
)

// OfflineFileState is the state of a file on the receiver's list.
type OfflineFileState uint8

// The states of a file on the receiver's list.
const (
	FileUnlisted OfflineFileState = iota // it was never added, or was forgotten
	FileListed                           // it waits for its receiver
	FileTaken                            // its receiver deleted it from the list
)

// FileStore keeps the lists of files that wait for their receivers. File servers keep the
// files themselves.
type FileStore interface {
	// AddOfflineFile adds f to its receiver's list. The store sets Created to its own
	// time. When the list holds or held a file with the same From, To and Task, also a
	// deleted one, nothing changes. Invalid as CheckOfflineFile says, and when one of the
	// users does not exist or has departed. Denied when MaxFilesBetween files wait
	// already.
	AddOfflineFile(ctx context.Context, f OfflineFile) error
	// OfflineFiles returns the files that wait for a user, oldest first, at most
	// MaxOfflineFiles.
	OfflineFiles(ctx context.Context, to uint32) ([]OfflineFile, error)
	// DeleteOfflineFile deletes a file from its receiver's list. It does nothing when the
	// list does not hold it.
	DeleteOfflineFile(ctx context.Context, from, to uint32, task string) error
	// ExpireOfflineFiles forgets the files, deleted ones included, that were added before
	// a time in unix seconds. It returns their number.
	ExpireOfflineFiles(ctx context.Context, before uint32) (int, error)
	// OfflineFilePage reads the OfflineFilePage rows after row after, with 0 the first
	// ones. It returns the waiting files among them, and the last row, which is the
	// argument for the next page; last is 0 when no further row follows. The page may
	// come from a slave and be as old as the slave: a decision based on it must tolerate
	// that.
	OfflineFilePage(ctx context.Context, after uint32) (files []OfflineFile, last uint32, err error)
	// OfflineFileState returns the present state of a file on the list.
	OfflineFileState(ctx context.Context, from, to uint32, task string) (OfflineFileState, error)
	// KeepSpool gives the lease of a file server's address to a spool, or renews it, for
	// o.Lease, and returns the epoch. It returns 0 when another spool has the lease, or a
	// later process of the same spool. A lease that has ended, and one of the same spool
	// with Epoch 0, is given with a new epoch. Invalid as CheckSpoolOwner says.
	KeepSpool(ctx context.Context, o SpoolOwner) (epoch uint64, err error)
	// ForgetOfflineFile forgets a waiting file as if it had never been added: it may be
	// added again. It reports whether the file was waiting. A file that its receiver
	// deleted stays deleted. Denied, without a change, when another spool or process has
	// got the lease since o got it. It renews the lease otherwise.
	ForgetOfflineFile(ctx context.Context, o SpoolOwner, from, to uint32, task string) (bool, error)
}

// SpoolOwner is a process of a file server that forgets files. Only one spool for each address may
// do so: a second one has other files, and would forget those of the first.
type SpoolOwner struct {
	// Server is the address with which the ids of the files are sealed, as host:port.
	Server string
	// Spool is the random id of the spool. A process that opens it again has the same one.
	Spool [16]byte
	// Epoch is what KeepSpool returned last to this process, 0 at first.
	Epoch uint64
	// Lease is the time for which the lease is kept, in whole seconds.
	Lease time.Duration
}

// MaxSpoolLease is the longest time for which a lease of a spool is kept.
const MaxSpoolLease = 7 * 24 * time.Hour

// maxServer is the longest address of a file server, in bytes.
const maxServer = 261

// LeaseName returns the name of the lease, of at most 64 bytes.
func (o SpoolOwner) LeaseName() string {
	const prefix, longest = "spool ", 64
	if len(o.Server) <= longest-len(prefix) {
		return prefix + o.Server
	}
	sum := sha256.Sum256([]byte(o.Server))
	return prefix + hex.EncodeToString(sum[:16])
}

// NotOwner is the error of ForgetOfflineFile, with kind Denied.
func (o SpoolOwner) NotOwner() error {
	return Errorf(Denied, "the lease %q has a later holder than epoch %d of spool %x",
		o.LeaseName(), o.Epoch, o.Spool)
}

// CheckSpoolOwner returns the reason why o can have no lease, with kind Invalid.
func CheckSpoolOwner(o SpoolOwner) error {
	switch {
	case o.Server == "" || len(o.Server) > maxServer || !utf8.ValidString(o.Server):
		return Errorf(Invalid, "%.64q is no address of a file server", o.Server)
	case o.Lease < time.Second || o.Lease > MaxSpoolLease:
		return Errorf(Invalid, "a lease of %v, not of 1 s to %v", o.Lease, MaxSpoolLease)
	}
	return nil
}

// CheckOfflineFile returns the reason why f cannot be added to a list, with kind Invalid:
// the name is empty, too long or not UTF-8, or the task is not a valid id.
func CheckOfflineFile(f OfflineFile) error {
	if err := CheckFileName(f.Name); err != nil {
		return err
	}
	if !ValidTaskID(f.Task) {
		return Errorf(Invalid, "transfer id of %d bytes is not valid", len(f.Task))
	}
	return nil
}

// CheckFileName returns the reason why name cannot be the name of a file, with kind
// Invalid. Paths are allowed: some clients send the path of the file on their own disk, and
// receivers are told CleanFileName of it.
func CheckFileName(name string) error {
	switch {
	case name == "":
		return Errorf(Invalid, "a file needs a name")
	case !utf8.ValidString(name):
		return Errorf(Invalid, "file name is not UTF-8")
	case utf8.RuneCountInString(name) > MaxFileName:
		return Errorf(Invalid, "file name of %d characters is longer than %d",
			utf8.RuneCountInString(name), MaxFileName)
	}
	return nil
}

// CleanFileName returns the name that receivers are told for a file. It keeps the last
// element of a path of any system. It removes control characters and characters without a
// glyph, such as the marks that reverse the direction of a text and show exe.jpg for a name
// that ends in .exe. A colon, which separates drives and streams on Windows, becomes _. The
// result is UTF-8, has at most MaxFileName characters, and is "file" when nothing remains.
func CleanFileName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp), r == utf8.RuneError:
			return -1
		case r == ':':
			return '_'
		}
		return r
	}, name)
	// Windows ignores blanks and dots at the end, so that ".. " would be "..".
	name = strings.TrimRight(strings.TrimLeft(name, " "), ". ")
	if runes := []rune(name); len(runes) > MaxFileName {
		name = string(shortened(runes))
	}
	if name == "" {
		return "file"
	}
	return name
}

// maxExtension is the longest extension that CleanFileName keeps when it cuts a name.
const maxExtension = 20

// shortened cuts a name to MaxFileName characters, before its extension.
func shortened(name []rune) []rune {
	dot := len(name) - 1
	for dot > 0 && name[dot] != '.' && len(name)-dot < maxExtension {
		dot--
	}
	if name[dot] != '.' {
		dot = len(name)
	}
	ext := name[dot:]
	stem := []rune(strings.TrimRight(string(name[:MaxFileName-len(ext)]), ". "))
	return append(stem, ext...)
}

// ValidTaskID reports whether s can be a file server's id of a transfer: 1 to MaxTaskID
// digits, ASCII letters and hyphens.
func ValidTaskID(s string) bool {
	if s == "" || len(s) > MaxTaskID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-') {
			return false
		}
	}
	return true
}

// The id of a transfer tells which file server made it. In the last group of the UUID the
// first four digits are the server's mark, and the other eight are its seal. Both are
// computed from the address that the file server announces to clients, so nothing needs
// to be configured. To other programs the id is an ordinary UUID with 74 random bits.
//
// Message servers know the addresses of all file servers and use the mark to find the
// server to ask first. Ids of file servers of other programs have random digits in its
// place: they match no server, or rarely a wrong one. The seal covers the rest of the id
// and the full address. By the seal a file server recognizes an id that it made, even
// after it has lost all other data about the transfer, and never mistakes the id of
// another server for its own.
const (
	uuidLen   = 36
	markBegin = 24
	markEnd   = 28
)

// ServerMark returns the mark of a file server, four hexadecimal digits, for the first
// address that it announces to clients.
func ServerMark(ip string, port uint32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %d", ip, port) // does not fail
	sum := h.Sum32()
	return fmt.Sprintf("%04x", sum>>16^sum&0xffff)
}

// MarkTask returns the transfer id, a UUID in text form, with the mark in its place. It
// returns other texts unchanged.
func MarkTask(id, mark string) string {
	if TaskMark(id) == "" || len(mark) != markEnd-markBegin {
		return id
	}
	return id[:markBegin] + mark + id[markEnd:]
}

// TaskMark returns the digits in the place of the mark in a transfer id; "" when id is
// not a UUID.
func TaskMark(id string) string {
	hyphens := len(id) == uuidLen && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-'
	if !hyphens || !ValidTaskID(id) {
		return ""
	}
	return id[markBegin:markEnd]
}

// SealTask returns the transfer id, a UUID in text form, with the mark and the seal of
// the file server at an address. It returns other texts unchanged.
func SealTask(id, ip string, port uint32) string {
	if TaskMark(id) == "" {
		return id
	}
	id = MarkTask(id, ServerMark(ip, port))
	return id[:markEnd] + taskSeal(id[:markEnd], ip, port)
}

// SealedTask reports whether the file server at an address made the transfer id. It also
// returns true for one in 2^48 ids of other servers.
func SealedTask(id, ip string, port uint32) bool {
	return TaskMark(id) != "" && SealTask(id, ip, port) == id
}

// taskSeal returns the seal of an id that begins with begin.
func taskSeal(begin, ip string, port uint32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", begin, ip, port))
	return hex.EncodeToString(sum[:(uuidLen-markEnd)/2])
}
