package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/core/client"
)

// markFile stands before a file that comes in.
const markFile = "↓"

// maxListed is how many waiting files are shown at login.
const maxListed = 20

// fileSize is a number of bytes for people. It holds no lower-case m: see screen.mark.
func fileSize(n int64) string {
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

// barWidth is how wide a bar is, in columns.
const barWidth = 64

// bar draws how far a transfer is and, until it has ended, how it is stopped; always equally wide and without a lower-case m: see screen.mark.
func (e fileEntry) bar() string {
	const cells = 20
	done := int64(0)
	percent := int64(0)
	if e.file.Size > 0 {
		done, percent = e.moved*cells/e.file.Size, e.moved*100/e.file.Size
	}
	text := fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", int(done)), strings.Repeat(".", cells-int(done)), percent)
	if e.rate > 0 {
		text += fmt.Sprintf("  %s/s", fileSize(int64(e.rate)))
	}
	if e.state == fileSending && e.file.Online && e.moved == 0 {
		text += "  not taken yet"
	}
	if e.state == fileSending || e.state == fileFetching {
		text += fmt.Sprintf("  /cancel %d stops it", e.n)
	}
	return fmt.Sprintf("%-*s", barWidth, text)
}

// fileText names a file and its size.
func (e fileEntry) text() string { return e.name + " (" + fileSize(e.file.Size) + ")" }

// other is the peer whom a file goes to or comes from.
func (e fileEntry) other() client.Peer {
	if e.mine {
		return client.Peer{ID: e.file.To}
	}
	return client.Peer{ID: e.file.From}
}

// fileRows are the rows of a transfer on the screen.
type fileRows struct{ head, bar int }

// file shows what becomes of a file.
func (f *terminalFrontend) file(e fileEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaving {
		return
	}
	who := f.s.book.peerName(e.other())
	switch e.state {
	case fileComing:
		f.say(fmt.Sprintf("%s is sending you %s; it can be fetched when the server has it", who, e.text()))
	case fileOffered, fileWaiting:
		f.fileOffer(e, who)
	case fileSending, fileFetching:
		f.fileProgress(e, who)
	default:
		f.fileEnded(e, who)
	}
}

// fileOffer shows a file that can be fetched; f.mu is held.
func (f *terminalFrontend) fileOffer(e fileEntry, who string) {
	if rows, ok := f.fileRows[e.n]; ok { // it was being fetched, and somebody has stopped that
		delete(f.fileRows, e.n)
		f.mark(rows.head, markColumn, red, markFailed)
		f.say(fmt.Sprintf("stopped fetching %s; /get %d goes on", e.name, e.n))
		return
	}
	if e.listed {
		if f.listed++; f.listed > maxListed {
			if f.listed == maxListed+1 {
				f.say("and more: /files")
			}
			return
		}
	}
	f.line(time.Now(), markFile, who, yellow, fmt.Sprintf("%s — /get %d takes it, /refuse %d does not", e.text(), e.n, e.n))
}

// fileProgress shows a transfer, or how far it is; f.mu is held.
func (f *terminalFrontend) fileProgress(e fileEntry, who string) {
	if rows, ok := f.fileRows[e.n]; ok {
		if rows.bar >= 0 {
			f.mark(rows.bar, indent, dim, e.bar())
		}
		return
	}
	rows := fileRows{bar: -1}
	wide := f.columns() > indent+barWidth
	text := e.text()
	if e.mine && !e.file.Online {
		text += ", kept by the server"
	}
	if !wide {
		text += fmt.Sprintf(" — /cancel %d stops it", e.n)
	}
	if e.mine {
		rows.head = f.line(time.Now(), markSending, f.to(e.other()), green, text)
	} else {
		rows.head = f.line(time.Now(), markSending, who, yellow, text)
	}
	if wide {
		rows.bar = f.print(strings.Repeat(" ", indent) + f.paint(dim, e.bar()))
	}
	f.fileRows[e.n] = rows
}

// fileEnded shows how a transfer ended; f.mu is held.
func (f *terminalFrontend) fileEnded(e fileEntry, who string) {
	mark, color := markFailed, red
	if e.state == fileDone {
		mark, color = markStored, green
	}
	if rows, ok := f.fileRows[e.n]; ok {
		delete(f.fileRows, e.n)
		f.mark(rows.head, markColumn, color, mark)
		if rows.bar >= 0 {
			f.mark(rows.bar, indent, dim, e.bar())
		}
	}
	switch {
	case e.state == fileFailed:
		f.complain(fmt.Sprintf("%s: %v", e.name, e.err))
	case e.state == filePaused:
		f.say(e.name + " goes on with your next login")
	case e.state != fileDone:
		f.say(e.name + " was " + e.state)
	case !e.mine:
		f.say(e.name + " is in " + e.path)
	case e.file.Online:
		f.say(who + " has " + e.name)
	default:
		f.say(e.name + " is with the server; " + who + " can fetch it")
	}
}

// sendFile sends a file to the open conversation, now if the other side is there.
func (f *terminalFrontend) sendFile(arg string) { f.startFile(arg, true) }

// dropFile leaves a file with the server.
func (f *terminalFrontend) dropFile(arg string) { f.startFile(arg, false) }

func (f *terminalFrontend) startFile(arg string, online bool) {
	p, _, ok := f.current()
	if !ok {
		return
	}
	if arg == "" {
		f.report(errors.New("which file? /send FILE"))
		return
	}
	ctx, cancel := f.asking()
	defer cancel()
	_, err := f.s.files.send(ctx, p, typedPath(arg), online)
	f.report(err)
}

// files lists what can be fetched and what is under way.
func (f *terminalFrontend) files(string) {
	ctx, cancel := f.asking()
	defer cancel()
	if err := f.s.files.refresh(ctx); err != nil {
		f.report(err)
	}
	list := f.s.files.list()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(list) == 0 {
		f.say("no files: /send FILE sends one")
	}
	for _, e := range list {
		way := "from "
		if e.mine {
			way = "to "
		}
		state := e.state
		if e.state == fileSending || e.state == fileFetching {
			state = strings.TrimSpace(e.bar())
		}
		f.print(runewidth.Truncate(fmt.Sprintf("  %3d  %s %s, %s", e.n, e.text(), way+f.s.book.peerName(e.other()), state), f.columns()-1, "…"))
	}
}

// fileNumber reads the number of a file.
func (f *terminalFrontend) fileNumber(arg string) (int, bool) {
	n, err := strconv.Atoi(arg)
	if err != nil {
		f.report(errors.New("which one? /files lists them with their numbers"))
	}
	return n, err == nil
}

func (f *terminalFrontend) getFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		_, err := f.s.files.get(n)
		f.report(err)
	}
}

func (f *terminalFrontend) refuseFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		ctx, cancel := f.asking()
		defer cancel()
		_, err := f.s.files.refuse(ctx, n)
		f.report(err)
	}
}

func (f *terminalFrontend) cancelFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		f.report(f.s.files.cancel(n))
	}
}

// jsonFile is a file.
type jsonFile struct {
	N      int    `json:"n"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	From   string `json:"from"`
	To     string `json:"to"`
	Online bool   `json:"online"`
	State  string `json:"state"`
	Moved  int64  `json:"moved"`
	Path   string `json:"path,omitempty"`
	Task   string `json:"task"`
	Error  string `json:"error,omitempty"`
}

// fileOf is a file in JSON.
func (f *jsonFrontend) fileOf(e fileEntry) *jsonFile {
	j := &jsonFile{
		N: e.n, Name: e.name, Size: e.file.Size, From: f.s.book.plainName(e.file.From), To: f.s.book.plainName(e.file.To), Online: e.file.Online,
		State: e.state, Moved: e.moved, Path: e.path, Task: e.file.Task,
	}
	if e.err != nil {
		j.Error = e.err.Error()
	}
	return j
}

// file writes what becomes of a file.
func (f *jsonFrontend) file(e fileEntry) { f.say(jsonEvent{Event: "file", File: f.fileOf(e)}) }

// listFiles writes what can be fetched and what is under way.
func (f *jsonFrontend) listFiles(ctx context.Context, _ jsonCommand) error {
	if err := f.s.files.refresh(ctx); err != nil {
		return err
	}
	list := []*jsonFile{}
	for _, e := range f.s.files.list() {
		list = append(list, f.fileOf(e))
	}
	f.say(jsonEvent{Event: "files", Files: &list})
	return nil
}

// fileCommand does what is asked of a file.
func (f *jsonFrontend) fileCommand(ctx context.Context, cmd jsonCommand) error {
	var e fileEntry
	var err error
	switch cmd.Cmd {
	case "send_file":
		var p client.Peer
		if p, err = f.peer(cmd.Group, cmd.To); err == nil {
			e, err = f.s.files.send(ctx, p, cmd.File, !cmd.Offline)
		}
	case "get_file":
		e, err = f.s.files.get(cmd.N)
	case "refuse_file":
		e, err = f.s.files.refuse(ctx, cmd.N)
	case "cancel_file":
		err = f.s.files.cancel(cmd.N)
	}
	event := jsonEvent{}
	if e.n > 0 {
		event.File = f.fileOf(e)
	}
	return f.done(cmd, event, err)
}

// file says that one can be fetched, and how.
func (f *plainFrontend) file(e fileEntry) {
	switch e.state {
	case fileOffered, fileWaiting:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note("%s sends %s: fetch it in a terminal, or with --json", f.s.book.peerName(e.other()), e.text())
	case fileFailed, fileDone:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note("file %s: %s", e.name, e.state)
	}
}
