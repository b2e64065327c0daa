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

	"teamtalk/core/client"
)

// uploadLog remembers, in a folder, the uploads that are under way, so that another process of the same user can go on with them.
type uploadLog struct {
	dir  string // empty: nothing is remembered
	mark string // of the server and the user: what a file's name begins with
}

// uploadRecord is an upload under way.
type uploadRecord struct {
	Task     string    `json:"task"`
	To       uint32    `json:"to"`
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Addrs    []string  `json:"addrs"`
	Path     string    `json:"path"`
	Modified time.Time `json:"modified"`
}

// StateFolder is where broken-off uploads are remembered when nobody says; empty when there is no such place.
func StateFolder() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "teamtalk")
}

func newUploadLog(o Options) uploadLog {
	if o.State == "" {
		return uploadLog{}
	}
	server := o.Server
	if o.MsgServer != "" {
		server = o.MsgServer
	}
	sum := sha256.Sum256([]byte(server + "\x00" + o.User))
	return uploadLog{dir: filepath.Join(o.State, "uploads"), mark: hex.EncodeToString(sum[:8]) + "-"}
}

// path is where an upload is remembered. A task's name is the server's choice, and not used for a path.
func (l uploadLog) path(task string) string {
	sum := sha256.Sum256([]byte(task))
	return filepath.Join(l.dir, l.mark+hex.EncodeToString(sum[:8])+".json")
}

// keep remembers an upload.
func (l uploadLog) keep(f client.File, path string, info os.FileInfo) error {
	if l.dir == "" {
		return nil
	}
	r := uploadRecord{Task: f.Task, To: f.To, Name: f.Name, Size: f.Size, Addrs: f.Addrs, Path: path, Modified: info.ModTime()}
	err := os.MkdirAll(l.dir, 0o700)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(r); err == nil {
			err = writeWhole(l.path(f.Task), text)
		}
	}
	if err != nil {
		return fmt.Errorf("remember the upload: %w", err)
	}
	return nil
}

// writeWhole writes a file so that it is there whole or not at all.
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

// forget forgets an upload.
func (l uploadLog) forget(f client.File) {
	if l.dir != "" {
		_ = os.Remove(l.path(f.Task)) // what stays is refused by the server next time
	}
}

// load returns what is remembered of this user at this server. What cannot be read is left alone.
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
		if err == nil && json.Unmarshal(text, &r) == nil && r.Task != "" && e.Name() == filepath.Base(l.path(r.Task)) {
			out = append(out, r)
		}
	}
	return out
}

// file is the upload's file.
func (r uploadRecord) file(from uint32) client.File {
	return client.File{Task: r.Task, From: from, To: r.To, Name: r.Name, Size: r.Size, Addrs: r.Addrs}
}

// same reports whether a file is still the one whose upload began.
func (r uploadRecord) same(info os.FileInfo) bool {
	return info.Size() == r.Size && info.ModTime().Equal(r.Modified)
}
