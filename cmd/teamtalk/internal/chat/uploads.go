package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"teamtalk/core/client/transfer"
)

// uploadLog records the unfinished uploads in a folder, so that the user's next session
// can continue them.
type uploadLog struct {
	dir  string // empty: nothing is recorded
	mark string // of the server and the user; file names begin with it
}

// uploadRecord is an unfinished upload.
type uploadRecord struct {
	Task     string    `json:"task"`
	To       uint32    `json:"to"`
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Addrs    []string  `json:"addrs"`
	Path     string    `json:"path"`
	Modified time.Time `json:"modified"`
}

// StateFolder returns the default folder for the records of unfinished uploads; empty
// when the system names no such place.
func StateFolder() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "teamtalk")
}

// newUploadLog returns the log of the user and the server of the options.
func newUploadLog(o Options) uploadLog {
	if o.State == "" {
		return uploadLog{}
	}
	server := o.Server
	if o.MsgServer != "" {
		server = o.MsgServer
	}
	sum := sha256.Sum256([]byte(server + "\x00" + o.User))
	return uploadLog{dir: filepath.Join(o.State, "uploads"),
		mark: hex.EncodeToString(sum[:8]) + "-"}
}

// path returns the file that records an upload. The server chooses a task's name, so the
// name is hashed and not used as a path.
func (l uploadLog) path(task string) string {
	sum := sha256.Sum256([]byte(task))
	return filepath.Join(l.dir, l.mark+hex.EncodeToString(sum[:8])+".json")
}

// keep records an upload.
func (l uploadLog) keep(f transfer.File, path string, info os.FileInfo) error {
	if l.dir == "" {
		return nil
	}
	r := uploadRecord{Task: f.Task, To: f.To, Name: f.Name, Size: f.Size, Addrs: f.Addrs,
		Path: path, Modified: info.ModTime()}
	err := os.MkdirAll(l.dir, 0o700)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(r); err == nil {
			err = writeWhole(l.path(f.Task), text)
		}
	}
	if err != nil {
		return fmt.Errorf("record the upload: %w", err)
	}
	return nil
}

// writeWhole writes a file so that its name holds the whole text or does not exist.
func writeWhole(path string, text []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// forget removes the record of an upload.
func (l uploadLog) forget(f transfer.File) {
	if l.dir != "" {
		_ = os.Remove(l.path(f.Task)) // the server refuses the upload of a record that remains
	}
}

// load returns the records of this user at this server. It skips files that it cannot
// read.
func (l uploadLog) load() []uploadRecord {
	if l.dir == "" {
		return nil
	}
	names, err := os.ReadDir(l.dir)
	if err != nil {
		return nil
	}
	var out []uploadRecord
	for _, e := range names {
		if !strings.HasPrefix(e.Name(), l.mark) || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(l.dir, e.Name()))
		var r uploadRecord
		if err == nil && json.Unmarshal(text,
			&r) == nil && r.Task != "" && e.Name() == filepath.Base(l.path(r.Task)) {
			out = append(out, r)
		}
	}
	return out
}

// file returns the file of the upload.
func (r uploadRecord) file(from uint32) transfer.File {
	return transfer.File{Task: r.Task, From: from, To: r.To, Name: r.Name, Size: r.Size,
		Addrs: r.Addrs}
}

// same reports whether a file has not changed since its upload began.
func (r uploadRecord) same(info os.FileInfo) bool {
	return info.Size() == r.Size && info.ModTime().Equal(r.Modified)
}
