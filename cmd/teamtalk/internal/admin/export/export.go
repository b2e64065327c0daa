// Package export writes all that a deployment has of one user into a folder or a ZIP file. Its
// README, which is part of each export, describes the form.
package export

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/spool"
)

// Store is a store with an export.
type Store interface {
	im.Store
	im.Exporter
}

// Options describe an export. Store, User and Out are required.
type Options struct {
	Store Store
	User  im.User
	Out   string // path of the folder, or of the ZIP file if it ends in .zip; must not exist
	// OwnOnly leaves out what other users have written, and their names.
	OwnOnly bool
	Cipher  *im.TextCipher // of the texts
	// Open opens a small file by its URL, or the place of a sound. NotFound: it is not here.
	Open func(ctx context.Context, url string) (*blob.Blob, error)
	// Spool is the folder of waiting files. Files that it does not have are only listed.
	Spool string
	// Audit is the path of the audit log; empty: there is none.
	Audit string
	// Networks are the networks that the user has logged in from.
	Networks []Network
	Now      time.Time
}

// Network is a network of a user's logins.
type Network struct {
	Network string    `json:"network"`
	Login   time.Time `json:"last_login"`
}

// Report counts what an export has.
type Report struct {
	Messages int
	Files    int // that were copied
	Missing  int // files that are not on this machine, or do not exist any more
}

//go:embed README.txt
var readme string

// page is the number of messages that are read at a time.
const page = 500

// exporter is a running export.
type exporter struct {
	Options
	ctx  context.Context
	sink sink
	// copies has a line for each file to be copied: a ZIP file has one open file at a time.
	copies *os.File
	line   *json.Encoder
	seen   map[string]struct{} // names in copies
	report Report
}

// Run writes an export. After an error nothing is left at Out.
func Run(ctx context.Context, o Options) (Report, error) {
	s, err := newSink(o.Out)
	if err != nil {
		return Report{}, err
	}
	defer s.abandon()
	copies, err := os.CreateTemp("", "teamtalk-export-")
	if err != nil {
		return Report{}, err
	}
	defer func() {
		_ = copies.Close()
		_ = os.Remove(copies.Name())
	}()
	e := &exporter{Options: o, ctx: ctx, sink: s, copies: copies, line: json.NewEncoder(copies),
		seen: map[string]struct{}{}}
	for _, step := range []struct {
		file  string
		write func(*json.Encoder) error
	}{
		{"profile.json", e.profile}, {"logins.jsonl", e.logins}, {"groups.jsonl", e.groups},
		{"people.jsonl", e.people}, {"messages.jsonl", e.messages},
		{"waiting_files.jsonl", e.waiting},
	} {
		w, err := s.create(step.file)
		if err == nil {
			b := bufio.NewWriter(w)
			enc := json.NewEncoder(b)
			enc.SetEscapeHTML(false)
			if err = step.write(enc); err == nil {
				err = b.Flush()
			}
		}
		if err != nil {
			return e.report, fmt.Errorf("%s: %w", step.file, err)
		}
	}
	if err := e.copyFiles(); err != nil {
		return e.report, err
	}
	w, err := s.create("README.txt")
	if err == nil {
		_, err = io.WriteString(w, readme)
	}
	if err != nil {
		return e.report, err
	}
	return e.report, s.close()
}

// profile writes what the directory has of the user.
func (e *exporter) profile(enc *json.Encoder) error {
	u := &e.User
	departs, err := admin.ReadDeparts(e.ctx, e.Store)
	if err != nil {
		return err
	}
	department := ""
	if d, ok := departs.ByID[u.DepartID]; ok {
		department = departs.Path(d)
	}
	avatar, err := e.copyLater(u.Avatar)
	if err != nil {
		return err
	}
	return enc.Encode(struct {
		ID         uint32    `json:"id"`
		Name       string    `json:"name"`
		Nick       string    `json:"nick"`
		Domain     string    `json:"domain"`
		Gender     string    `json:"gender"`
		Phone      string    `json:"phone"`
		Email      string    `json:"email"`
		Avatar     string    `json:"avatar"`
		AvatarFile string    `json:"avatar_file,omitempty"`
		Department string    `json:"department"`
		Sign       string    `json:"sign"`
		Status     string    `json:"status"`
		NoPushes   bool      `json:"no_pushes_at_night"`
		Changed    time.Time `json:"changed"`
		Exported   time.Time `json:"exported"`
		OwnOnly    bool      `json:"own_only"`
	}{u.ID, u.Name, u.Nick, u.Domain, admin.GenderName(u.Gender), u.Phone, u.Email, u.Avatar,
		avatar, department, u.SignInfo, admin.StatusName(u.Status), u.PushShield,
		at(u.Updated), e.Now.UTC(), e.OwnOnly})
}

// at returns a time of the store.
func at(seconds uint32) time.Time { return time.Unix(int64(seconds), 0).UTC() }

// logins writes the networks of the user's logins, and the user's lines of the audit log.
func (e *exporter) logins(enc *json.Encoder) error {
	for _, n := range e.Networks {
		if err := enc.Encode(n); err != nil {
			return err
		}
	}
	if e.Audit == "" {
		return nil
	}
	f, err := os.Open(e.Audit)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		var about struct {
			User uint32 `json:"user"`
			Name string `json:"name"`
		}
		if json.Unmarshal(lines.Bytes(), &about) != nil || about.User != e.User.ID &&
			(about.User != 0 || !strings.EqualFold(about.Name, e.User.Name)) {
			continue
		}
		if err := enc.Encode(json.RawMessage(lines.Bytes())); err != nil {
			return err
		}
	}
	return lines.Err()
}

// waiting writes the files that wait for their receivers, from and to the user.
func (e *exporter) waiting(enc *json.Encoder) error {
	for after, more := uint32(0), true; more; more = after > 0 {
		list, last, err := e.Store.OfflineFilePage(e.ctx, after)
		if err != nil {
			return err
		}
		for _, f := range list {
			if f.From != e.User.ID && (f.To != e.User.ID || e.OwnOnly) {
				continue
			}
			row := struct {
				From    uint32    `json:"from"`
				To      uint32    `json:"to"`
				Time    time.Time `json:"time"`
				Name    string    `json:"name"`
				Size    uint32    `json:"size"`
				File    string    `json:"file,omitempty"`
				Missing bool      `json:"missing,omitempty"`
			}{f.From, f.To, at(f.Created), f.Name, f.Size, "", false}
			row.File, row.Missing = e.spooled(f.Task)
			if err := enc.Encode(row); err != nil {
				return err
			}
		}
		after = last
	}
	return nil
}

// spooled notes a waiting file to be copied, if the folder is here.
func (e *exporter) spooled(task string) (file string, missing bool) {
	if e.Spool != "" {
		here, err := spool.ViewSome(e.Spool, []string{task})
		if f, ok := here[task]; ok && err == nil {
			return e.note(copied{Name: "waiting/" + task, Path: f.Path}), false
		}
	}
	e.report.Missing++
	return "", true
}
