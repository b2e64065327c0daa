package jsonio

import (
	"context"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
)

// fileOf returns a file in JSON.
func (f *Frontend) fileOf(e chat.FileEntry) *File {
	j := &File{
		N: e.N, Name: e.Name, Size: e.File.Size,
		From: f.s.Book.PlainName(e.File.From), To: f.s.Book.PlainName(e.File.To),
		Online: e.File.Online,
		State:  e.State, Moved: e.Moved, Path: e.Path, Task: e.File.Task,
	}
	if e.Err != nil {
		j.Error = e.Err.Error()
	}
	return j
}

// File writes each change of a file.
func (f *Frontend) File(e chat.FileEntry) { f.say(Event{Event: "file", File: f.fileOf(e)}) }

// listFiles writes the waiting files and the running transfers.
func (f *Frontend) listFiles(ctx context.Context, _ Command) error {
	if err := f.s.Files.Refresh(ctx); err != nil {
		return err
	}
	list := []*File{}
	for _, e := range f.s.Files.List() {
		list = append(list, f.fileOf(e))
	}
	f.say(Event{Event: "files", Files: &list})
	return nil
}

// fileCommand sends, fetches, refuses or cancels a file.
func (f *Frontend) fileCommand(ctx context.Context, cmd Command) error {
	var e chat.FileEntry
	var err error
	switch cmd.Cmd {
	case "send_file":
		var p client.Peer
		if p, err = f.peer(cmd.Group, cmd.To); err == nil {
			e, err = f.s.Files.Send(ctx, p, cmd.File, !cmd.Offline)
		}
	case "get_file":
		e, err = f.s.Files.Get(cmd.N)
	case "refuse_file":
		e, err = f.s.Files.Refuse(ctx, cmd.N)
	case "cancel_file":
		err = f.s.Files.Cancel(cmd.N)
	}
	event := Event{}
	if e.N > 0 {
		event.File = f.fileOf(e)
	}
	return f.done(cmd, event, err)
}
