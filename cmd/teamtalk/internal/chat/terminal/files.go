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

// markFile stands before a file that comes in.
const markFile = "↓"

// maxListed is how many waiting files are shown at login.
const maxListed = 20

// barWidth is how wide a bar is, in columns.
const barWidth = 64

// bar draws how far a transfer is and, until it has ended, how it is stopped; always equally wide and without a lower-case m: see screen.mark.
func bar(e chat.FileEntry) string {
	const cells = 20
	done := int64(0)
	percent := int64(0)
	if e.File.Size > 0 {
		done, percent = e.Moved*cells/e.File.Size, e.Moved*100/e.File.Size
	}
	text := fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", int(done)), strings.Repeat(".", cells-int(done)), percent)
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

// fileRows are the rows of a transfer on the screen.
type fileRows struct{ head, bar int }

// File shows what becomes of a file.
func (f *Frontend) File(e chat.FileEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaving {
		return
	}
	who := f.s.Book.PeerName(e.Other())
	switch e.State {
	case chat.FileComing:
		f.say(fmt.Sprintf("%s is sending you %s; it can be fetched when the server has it", who, e.Text()))
	case chat.FileOffered, chat.FileWaiting:
		f.fileOffer(e, who)
	case chat.FileSending, chat.FileFetching:
		f.fileProgress(e, who)
	default:
		f.fileEnded(e, who)
	}
}

// fileOffer shows a file that can be fetched; f.mu is held.
func (f *Frontend) fileOffer(e chat.FileEntry, who string) {
	if rows, ok := f.fileRows[e.N]; ok { // it was being fetched, and somebody has stopped that
		delete(f.fileRows, e.N)
		f.mark(rows.head, markColumn, red, markFailed)
		f.say(fmt.Sprintf("stopped fetching %s; /get %d goes on", e.Name, e.N))
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
	f.line(time.Now(), markFile, who, yellow, fmt.Sprintf("%s — /get %d takes it, /refuse %d does not", e.Text(), e.N, e.N))
}

// fileProgress shows a transfer, or how far it is; f.mu is held.
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

// fileEnded shows how a transfer ended; f.mu is held.
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
		f.say(e.Name + " goes on with your next login")
	case e.State != chat.FileDone:
		f.say(e.Name + " was " + e.State)
	case !e.Mine:
		f.say(e.Name + " is in " + e.Path)
	case e.File.Online:
		f.say(who + " has " + e.Name)
	default:
		f.say(e.Name + " is with the server; " + who + " can fetch it")
	}
}

// sendFile sends a file to the open conversation, now if the other side is there.
func (f *Frontend) sendFile(arg string) { f.startFile(arg, true) }

// dropFile leaves a file with the server.
func (f *Frontend) dropFile(arg string) { f.startFile(arg, false) }

func (f *Frontend) startFile(arg string, online bool) {
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
	_, err := f.s.Files.Send(ctx, p, chat.TypedPath(arg), online)
	f.report(err)
}

// files lists what can be fetched and what is under way.
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
		f.print(runewidth.Truncate(fmt.Sprintf("  %3d  %s %s, %s", e.N, e.Text(), way+f.s.Book.PeerName(e.Other()), state), f.columns()-1, "…"))
	}
}

// fileNumber reads the number of a file.
func (f *Frontend) fileNumber(arg string) (int, bool) {
	n, err := strconv.Atoi(arg)
	if err != nil {
		f.report(errors.New("which one? /files lists them with their numbers"))
	}
	return n, err == nil
}

func (f *Frontend) getFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		_, err := f.s.Files.Get(n)
		f.report(err)
	}
}

func (f *Frontend) refuseFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		ctx, cancel := f.asking()
		defer cancel()
		_, err := f.s.Files.Refuse(ctx, n)
		f.report(err)
	}
}

func (f *Frontend) cancelFile(arg string) {
	if n, ok := f.fileNumber(arg); ok {
		f.report(f.s.Files.Cancel(n))
	}
}
