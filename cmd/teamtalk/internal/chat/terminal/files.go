package terminal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
)

// sendFile sends a file to the open conversation, at once if the other user is online.
func (cm *commands) sendFile(arg string) { cm.startFile(arg, true) }

// dropFile leaves a file at the server.
func (cm *commands) dropFile(arg string) { cm.startFile(arg, false) }

// startFile starts to send a file.
func (cm *commands) startFile(arg string, online bool) {
	p, _, ok := cm.current()
	if !ok {
		return
	}
	if arg == "" {
		cm.report(errors.New("want a file: /send FILE"))
		return
	}
	ctx, cancel := cm.asking()
	defer cancel()
	_, err := cm.s.Files.Send(ctx, p, chat.TypedPath(arg), online)
	cm.report(err)
}

// files lists the files that can be fetched and the running transfers.
func (cm *commands) files(string) {
	ctx, cancel := cm.asking()
	defer cancel()
	if err := cm.s.Files.Refresh(ctx); err != nil {
		cm.report(err)
	}
	list := cm.s.Files.List()
	cm.mu.Lock()
	defer cm.mu.Unlock()
	if len(list) == 0 {
		cm.say("no files: /send FILE sends one")
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
		line := fmt.Sprintf("  %3d  %s %s, %s", e.N, e.Text(), way+cm.s.Book.PeerName(e.Other()),
			state)
		cm.print(runewidth.Truncate(line, cm.columns()-1, "…"))
	}
}

// fileNumber parses the number of a file.
func (cm *commands) fileNumber(arg string) (int, bool) {
	n, err := strconv.Atoi(arg)
	if err != nil {
		cm.report(errors.New("want the number of a file: /files lists them"))
	}
	return n, err == nil
}

// getFile fetches a file.
func (cm *commands) getFile(arg string) {
	if n, ok := cm.fileNumber(arg); ok {
		_, err := cm.s.Files.Get(n)
		cm.report(err)
	}
}

// refuseFile refuses a file.
func (cm *commands) refuseFile(arg string) {
	if n, ok := cm.fileNumber(arg); ok {
		ctx, cancel := cm.asking()
		defer cancel()
		_, err := cm.s.Files.Refuse(ctx, n)
		cm.report(err)
	}
}

// cancelFile stops a transfer.
func (cm *commands) cancelFile(arg string) {
	if n, ok := cm.fileNumber(arg); ok {
		cm.report(cm.s.Files.Cancel(n))
	}
}
