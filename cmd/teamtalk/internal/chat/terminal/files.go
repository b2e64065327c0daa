package terminal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
)

// markFile is the mark of an offered file.
const markFile = "↓"

// maxListed is how many waiting files are shown after the login.
const maxListed = 20

// barWidth is the width of a bar, in columns.
const barWidth = 64

// bar draws the progress of a transfer, and the command that stops it while it runs. The
// bar has barWidth columns and no lower-case m: see screen.mark.
func bar(e chat.FileEntry) string {
	const cells = 20
	done := int64(0)
	percent := int64(0)
	if e.File.Size > 0 {
		done, percent = e.Moved*cells/e.File.Size, e.Moved*100/e.File.Size
	}
	text := fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", int(done)),
		strings.Repeat(".", cells-int(done)), percent)
	if e.Rate > 0 {
		text += fmt.Sprintf("  %s/s", chat.FileSize(int64(e.Rate)))
	}
	if e.State == chat.FileSending && e.File.Online && e.Moved == 0 {
		text += "  not taken yet"
	}
	if e.State == chat.FileSending || e.State == chat.FileFetching {
		text += fmt.Sprintf("  /cancel %d stops it", e.N)
	}
	return fmt.Sprintf("%-*s", barWidth, text)
}

// fileRows holds the rows of a transfer on the screen.
type fileRows struct{ head, bar int }

// File shows each change of a file.
func (f *Frontend) File(e chat.FileEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaving {
		return
	}
	who := f.s.Book.PeerName(e.Other())
	switch e.State {
	case chat.FileComing:
		f.say(fmt.Sprintf("%s is uploading %s for you; you can fetch it when the server has it",
			who, e.Text()))
	case chat.FileOffered, chat.FileWaiting:
		f.fileOffer(e, who)
	case chat.FileSending, chat.FileFetching:
		f.fileProgress(e, who)
	default:
		f.fileEnded(e, who)
	}
}

// fileOffer shows a file that can be fetched. f.mu is held.
func (f *Frontend) fileOffer(e chat.FileEntry, who string) {
	if rows, ok := f.fileRows[e.N]; ok { // the user stopped fetching it
		delete(f.fileRows, e.N)
		f.mark(rows.head, markColumn, red, markFailed)
		f.say(fmt.Sprintf("stopped fetching %s; /get %d continues", e.Name, e.N))
		return
	}
	if e.Listed {
		if f.listed++; f.listed > maxListed {
			if f.listed == maxListed+1 {
				f.say("and more: /files")
			}
			return
		}
	}
	f.line(time.Now(), markFile, who, yellow,
		fmt.Sprintf("%s — /get %d fetches it, /refuse %d refuses it", e.Text(), e.N, e.N))
}

// fileProgress shows a transfer and its progress. f.mu is held.
func (f *Frontend) fileProgress(e chat.FileEntry, who string) {
	if rows, ok := f.fileRows[e.N]; ok {
		if rows.bar >= 0 {
			f.mark(rows.bar, indent, dim, bar(e))
		}
		return
	}
	rows := fileRows{bar: -1}
	wide := f.columns() > indent+barWidth
	text := e.Text()
	if e.Mine && !e.File.Online {
		text += ", kept by the server"
	}
	if !wide {
		text += fmt.Sprintf(" — /cancel %d stops it", e.N)
	}
	if e.Mine {
		rows.head = f.line(time.Now(), markSending, f.to(e.Other()), green, text)
	} else {
		rows.head = f.line(time.Now(), markSending, who, yellow, text)
	}
	if wide {
		rows.bar = f.print(strings.Repeat(" ", indent) + f.paint(dim, bar(e)))
	}
	f.fileRows[e.N] = rows
}

// fileEnded shows the outcome of a transfer. f.mu is held.
func (f *Frontend) fileEnded(e chat.FileEntry, who string) {
	mark, color := markFailed, red
	if e.State == chat.FileDone {
		mark, color = markStored, green
	}
	if rows, ok := f.fileRows[e.N]; ok {
		delete(f.fileRows, e.N)
		f.mark(rows.head, markColumn, color, mark)
		if rows.bar >= 0 {
			f.mark(rows.bar, indent, dim, bar(e))
		}
	}
	switch {
	case e.State == chat.FileFailed:
		f.complain(fmt.Sprintf("%s: %v", e.Name, e.Err))
	case e.State == chat.FilePaused:
		f.say(e.Name + " continues after your next login")
	case e.State != chat.FileDone:
		f.say(e.Name + " was " + e.State)
	case !e.Mine:
		f.say(e.Name + " is in " + e.Path)
	case e.File.Online:
		f.say(who + " has " + e.Name)
	default:
		f.say(e.Name + " is at the server; " + who + " can fetch it")
	}
}

// sendFile sends a file to the open conversation, at once if the other user is online.
func (f *Frontend) sendFile(arg string) { f.startFile(arg, true) }

// dropFile leaves a file at the server.
func (f *Frontend) dropFile(arg string) { f.startFile(arg, false) }

// startFile starts to send a file.
func (f *Frontend) startFile(arg string, online bool) {
	p, _, ok := f.current()
	if !ok {
		return
	}
	if arg == "" {
		f.report(errors.New("want a file: /send FILE"))
		return
	}
	ctx, cancel := f.asking()
	defer cancel()
	_, err := f.s.Files.Send(ctx, p, chat.TypedPath(arg), online)
	f.report(err)
}

// files lists the files that can be fetched and the running transfers.
func (f *Frontend) files(string) {
	ctx, cancel := f.asking()
	defer cancel()
	if err := f.s.Files.Refresh(ctx); err != nil {
		f.report(err)
	}
	list := f.s.Files.List()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(list) == 0 {
		f.say("no files: /send FILE sends one")
	}
	for _, e := range list {
		way := "from "
		if e.Mine {
			way = "to "
		}
		state := e.State
		if e.State == chat.FileSending || e.State == chat.FileFetching {
			state = strings.TrimSpace(bar(e))
		}
		line := fmt.Sprintf("  %3d  %s %s, %s", e.N, e.Text(), way+f.s.Book.PeerName(e.Other()),
			state)
		f.print(runewidth.Truncate(line, f.columns()-1, "…"))
	}
}

// fileNumber parses the number of a file.
func (f *Frontend) fileNumber(arg string) (int, bool) {
	n, err := strconv.Atoi(arg)
	if err != nil {
		f.report(errors.New("want the number of a file: /files lists them"))
	}
	return n, err == nil
}

// getFile fetches a file.
func (f *Frontend) getFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		_, err := f.s.Files.Get(n)
		f.report(err)
	}
}

// refuseFile refuses a file.
func (f *Frontend) refuseFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		ctx, cancel := f.asking()
		defer cancel()
		_, err := f.s.Files.Refuse(ctx, n)
		f.report(err)
	}
}

// cancelFile stops a transfer.
func (f *Frontend) cancelFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		f.report(f.s.Files.Cancel(n))
	}
}
