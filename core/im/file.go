package im

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"unicode/utf8"
)

// OfflineFile is a file that a file server keeps until its receiver fetches it.
type OfflineFile struct {
	From, To uint32 // users
	Task     string // the file server's name for the transfer, see ValidTaskID
	Name     string // 1 to MaxFileName characters
	Size     uint32 // bytes
	Created  uint32 // unix seconds
}

const (
	// MaxFileName is the longest name of a file, in characters.
	MaxFileName = 255
	// MaxTaskID is the longest name of a transfer, in bytes. File servers draw UUIDs, of 36.
	MaxTaskID = 64
	// MaxOfflineFiles is how many files that wait for one user are listed, the oldest. With the longest names that makes some 600 KB, in one frame.
	MaxOfflineFiles = 500
	// MaxFilesBetween is how many files from one user may wait for another. Nobody can fill up another's list alone.
	MaxFilesBetween = 100
	// OfflineFilePage is how many rows a page of everybody's list looks at.
	OfflineFilePage = 1000
)

// OfflineFileState is what the list says of a file.
type OfflineFileState uint8

// The states of a file on the list.
const (
	FileUnlisted OfflineFileState = iota // it was never noted, or has been forgotten
	FileListed                           // it waits
	FileTaken                            // its receiver has taken it off
)

// FileStore keeps the list of files that wait for their receivers. The files themselves are with the file servers.
type FileStore interface {
	// AddOfflineFile notes that f waits; its Created is the store's time, whatever f says. One with the same From, To and Task that is there, or was and is deleted, stays
	// as it is. Invalid as CheckOfflineFile says, and when one of the users does not exist or has departed; Denied when MaxFilesBetween wait already.
	AddOfflineFile(ctx context.Context, f OfflineFile) error
	// OfflineFiles returns the files that wait for a user, in the order in which they were noted, at most MaxOfflineFiles.
	OfflineFiles(ctx context.Context, to uint32) ([]OfflineFile, error)
	// DeleteOfflineFile takes a file off its receiver's list. It does nothing when it is not there.
	DeleteOfflineFile(ctx context.Context, from, to uint32, task string) error
	// ExpireOfflineFiles forgets what was noted before a time, in unix seconds, deleted files too, and returns how many that were.
	ExpireOfflineFiles(ctx context.Context, before uint32) (int, error)
	// OfflineFilePage returns, of the OfflineFilePage rows after one, those of files that wait, and the last of these rows, with which the next page begins; 0 when there are
	// none after it. The first page begins with 0. It may be as old as the slave is: what is decided by it has to bear that.
	OfflineFilePage(ctx context.Context, after uint32) (files []OfflineFile, last uint32, err error)
	// OfflineFileState tells what the list says of a file just now.
	OfflineFileState(ctx context.Context, from, to uint32, task string) (OfflineFileState, error)
	// ForgetOfflineFile forgets that a file waits, as if it had never been noted: it may be noted again. It reports whether it did wait; one that its receiver has taken off
	// stays taken off.
	ForgetOfflineFile(ctx context.Context, from, to uint32, task string) (bool, error)
}

// CheckOfflineFile says what keeps f from being noted, with kind Invalid: a name that is empty, too long or not UTF-8, or a task that is none.
func CheckOfflineFile(f OfflineFile) error {
	if err := CheckFileName(f.Name); err != nil {
		return err
	}
	if !ValidTaskID(f.Task) {
		return Errorf(Invalid, "transfer whose name of %d bytes is none", len(f.Task))
	}
	return nil
}

// CheckFileName says what is wrong with the name of a file, with kind Invalid. What a client makes of slashes in it is the client's to know.
func CheckFileName(name string) error {
	switch {
	case name == "":
		return Errorf(Invalid, "a file needs a name")
	case !utf8.ValidString(name):
		return Errorf(Invalid, "file name is not UTF-8")
	case utf8.RuneCountInString(name) > MaxFileName:
		return Errorf(Invalid, "file name of %d characters is longer than %d", utf8.RuneCountInString(name), MaxFileName)
	}
	return nil
}

// ValidTaskID reports whether s can be a file server's name for a transfer: 1 to MaxTaskID digits, ASCII letters and hyphens.
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

// A transfer's id says which file server made it: in the last group of its UUID the first four digits are the server's mark and the other eight its seal. Both follow from the
// address it tells clients, so nothing has to be configured, and to everybody else the id is a UUID like others, of which 74 bits are random.
//
// The mark is for message servers, which know all these addresses: it says where to look first. Ids of other file servers have chance digits there, and lead nowhere, or rarely
// to a wrong place. The seal covers the whole id, and the address in full: by it a file server knows that it made an id of which it has nothing else any more, so that it never
// takes another's for its own.
const (
	uuidLen   = 36
	markBegin = 24
	markEnd   = 28
)

// ServerMark is the mark of a file server: four hexadecimal digits. It takes the first address that it tells clients.
func ServerMark(ip string, port uint32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %d", ip, port) // does not fail
	sum := h.Sum32()
	return fmt.Sprintf("%04x", sum>>16^sum&0xffff)
}

// MarkTask puts a server's mark into a transfer's id, which is a UUID in text; what is none stays as it is.
func MarkTask(id, mark string) string {
	if TaskMark(id) == "" || len(mark) != markEnd-markBegin {
		return id
	}
	return id[:markBegin] + mark + id[markEnd:]
}

// TaskMark returns the mark in a transfer's id, or what stands in its place; "" when there is none.
func TaskMark(id string) string {
	if len(id) != uuidLen || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' || !ValidTaskID(id) {
		return ""
	}
	return id[markBegin:markEnd]
}

// SealTask makes a transfer's id, a UUID in text, one of the file server at an address: it puts its mark and its seal in. What is no UUID stays as it is.
func SealTask(id, ip string, port uint32) string {
	if TaskMark(id) == "" {
		return id
	}
	id = MarkTask(id, ServerMark(ip, port))
	return id[:markEnd] + taskSeal(id[:markEnd], ip, port)
}

// SealedTask reports whether the file server at an address made a transfer's id. One in 2^48 ids of others looks as if it had.
func SealedTask(id, ip string, port uint32) bool {
	return TaskMark(id) != "" && SealTask(id, ip, port) == id
}

// taskSeal is the seal of an id that begins so.
func taskSeal(begin, ip string, port uint32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", begin, ip, port))
	return hex.EncodeToString(sum[:(uuidLen-markEnd)/2])
}
