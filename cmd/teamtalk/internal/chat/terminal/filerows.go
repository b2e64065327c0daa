package terminal

import (
	"fmt"
	"strings"
	"time"

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
func (v *view) File(e chat.FileEntry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leaving {
		return
	}
	who := v.s.Book.PeerName(e.Other())
	switch e.State {
	case chat.FileComing:
		v.say(fmt.Sprintf("%s is uploading %s for you; you can fetch it when the server has it",
			who, e.Text()))
	case chat.FileOffered, chat.FileWaiting:
		v.fileOffer(e, who)
	case chat.FileSending, chat.FileFetching:
		v.fileProgress(e, who)
	default:
		v.fileEnded(e, who)
	}
}

// fileOffer shows a file that can be fetched. v.mu is held.
func (v *view) fileOffer(e chat.FileEntry, who string) {
	if rows, ok := v.fileRows[e.N]; ok { // the user stopped fetching it
		delete(v.fileRows, e.N)
		v.mark(rows.head, markColumn, red, markFailed)
		v.say(fmt.Sprintf("stopped fetching %s; /get %d continues", e.Name, e.N))
		return
	}
	if e.Listed {
		if v.listed++; v.listed > maxListed {
			if v.listed == maxListed+1 {
				v.say("and more: /files")
			}
			return
		}
	}
	v.line(time.Now(), markFile, who, yellow,
		fmt.Sprintf("%s — /get %d fetches it, /refuse %d refuses it", e.Text(), e.N, e.N))
}

// fileProgress shows a transfer and its progress. v.mu is held.
func (v *view) fileProgress(e chat.FileEntry, who string) {
	if rows, ok := v.fileRows[e.N]; ok {
		if rows.bar >= 0 {
			v.mark(rows.bar, indent, dim, bar(e))
		}
		return
	}
	rows := fileRows{bar: -1}
	wide := v.columns() > indent+barWidth
	text := e.Text()
	if e.Mine && !e.File.Online {
		text += ", kept by the server"
	}
	if !wide {
		text += fmt.Sprintf(" — /cancel %d stops it", e.N)
	}
	if e.Mine {
		rows.head = v.line(time.Now(), markSending, v.to(e.Other()), green, text)
	} else {
		rows.head = v.line(time.Now(), markSending, who, yellow, text)
	}
	if wide {
		rows.bar = v.print(strings.Repeat(" ", indent) + v.paint(dim, bar(e)))
	}
	v.fileRows[e.N] = rows
}

// fileEnded shows the outcome of a transfer. v.mu is held.
func (v *view) fileEnded(e chat.FileEntry, who string) {
	mark, color := markFailed, red
	if e.State == chat.FileDone {
		mark, color = markStored, green
	}
	if rows, ok := v.fileRows[e.N]; ok {
		delete(v.fileRows, e.N)
		v.mark(rows.head, markColumn, color, mark)
		if rows.bar >= 0 {
			v.mark(rows.bar, indent, dim, bar(e))
		}
	}
	switch {
	case e.State == chat.FileFailed:
		v.complain(fmt.Sprintf("%s: %v", e.Name, e.Err))
	case e.State == chat.FilePaused:
		v.say(e.Name + " continues after your next login")
	case e.State != chat.FileDone:
		v.say(e.Name + " was " + e.State)
	case !e.Mine:
		v.say(e.Name + " is in " + e.Path)
	case e.File.Online:
		v.say(who + " has " + e.Name)
	default:
		v.say(e.Name + " is at the server; " + who + " can fetch it")
	}
}
