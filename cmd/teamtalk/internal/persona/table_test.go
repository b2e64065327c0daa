package persona

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write PERSONAS.md instead of comparing it")

// pageHead precedes the table on the page.
const pageHead = `# Personas

What each client in the field does, as the tests in this folder imitate it. The table is printed
from the rows in ` + "`persona.go`" + `; a test compares it.
To write it again: ` + "`go test ./cmd/teamtalk/internal/persona -run TestPage -update`" + `.

Times are those of the real clients. "–" means never, or no limit.

`

// lines are the rows of the page.
var lines = []struct {
	name string
	of   func(p *Persona) any
}{
	{"client_type", func(p *Persona) any { return fmt.Sprintf("0x%02x", int32(p.Type)) }},
	{"connects with WebSocket", func(p *Persona) any { return p.WebSocket }},
	{"heartbeat", func(p *Persona) any { return p.Heartbeat }},
	{"closes after silence", func(p *Persona) any { return p.Silence }},
	{"closes without echo", func(p *Persona) any { return p.Echo }},
	{"finds a request by", func(p *Persona) any {
		return []string{"seq", "command, seq", "command"}[p.Match]
	}},
	{"seqs", func(p *Persona) any { return fmt.Sprintf("%d–%d", p.FirstSeq, p.LastSeq) }},
	{"seq for unread lists", func(p *Persona) any {
		if p.ListSeq == 0 {
			return "next"
		}
		return fmt.Sprintf("0x%04x", p.ListSeq)
	}},
	{"acks 1:1, session is", func(p *Persona) any { return receiptName(p.Single) }},
	{"the same, chat open", func(p *Persona) any {
		if p.OpenReadOnly {
			return "read ack"
		}
		return receiptName(p.Single)
	}},
	{"acks group, session is", func(p *Persona) any { return receiptName(p.Group) }},
	{"acks own copy, session is", func(p *Persona) any { return receiptName(p.Own) }},
	{"second delivery", func(p *Persona) any {
		return []string{"shown", "dropped", "open: dropped"}[p.Repeated]
	}},
	{"resends once after", func(p *Persona) any { return p.Resend }},
	{"gives up after", func(p *Persona) any { return p.Fail }},
	{"largest frame, bytes", func(p *Persona) any { return p.MaxFrame }},
	{"user list in parts", func(p *Persona) any { return []string{"first", "all"}[p.UserParts] }},
	{"answers read notify", func(p *Persona) any {
		return []string{"–", "always", "once"}[p.ReadNotify]
	}},
	{"refused addition", func(p *Persona) any {
		if p.Empties {
			return "empties"
		}
		return "–"
	}},
	{"kicked", func(p *Persona) any { return []string{"ends", "ignores"}[p.Kicked] }},
	{"misses a kick closed in", func(p *Persona) any { return p.NoticeTime }},
	{"login refused: pause", func(p *Persona) any { return pauses(p.Refused) }},
	{"connection lost: pause", func(p *Persona) any { return pauses(p.Lost) }},
	{"notices an end at", func(p *Persona) any {
		return []string{"once", "next write", "silence"}[p.EndSeen]
	}},
	{"asks login_server", func(p *Persona) any {
		switch {
		case p.AskServer:
			return "each time"
		case p.AskAfter > 0:
			return "after " + p.AskAfter.String()
		}
		return "at first"
	}},
	{"users since", func(p *Persona) any { return sinceName(p.UserTime) }},
	{"departments since", func(p *Persona) any { return sinceName(p.DepartTime) }},
	{"sessions since", func(p *Persona) any { return sinceName(p.SessionTime) }},
	{"asks after login", func(p *Persona) any { return fmt.Sprintf("in %d steps", len(p.Sync)) }},
	{"wants text/html", func(p *Persona) any { return p.NeedsHTML }},
	{"uploads to msfsPrior +", func(p *Persona) any { return p.UploadPath }},
	{"an upload failed if", func(p *Persona) any {
		if p.UploadURL {
			return "no url"
		}
		return "error_code"
	}},
	{"shows pictures by", func(p *Persona) any {
		if p.PicturePath {
			return "path"
		}
		return "url"
	}},
	{"avatar suffixes", func(p *Persona) any { return strings.Join(p.Avatars, " ") }},
	{"sends files", func(p *Persona) any { return p.Files }},
}

func receiptName(r Receipt) string { return []string{"–", "peer", "itself", "peer, user id"}[r] }

func sinceName(s SyncTime) string { return []string{"0", "answer", "own clock", "newest"}[s] }

func pauses(r Retry) string {
	if r.First == AtOnce {
		return "none"
	}
	var all []string
	for n := range 3 {
		pause, again := r.Pause(n)
		if !again {
			return "–"
		}
		all = append(all, fmt.Sprint(pause.Seconds()))
	}
	return strings.Join(all, ", ") + " … s"
}

// cell prints a value.
func cell(v any) string {
	switch v := v.(type) {
	case time.Duration:
		if v == 0 {
			return "–"
		}
		return v.String()
	case bool:
		return map[bool]string{true: "yes", false: "–"}[v]
	}
	if s := strings.TrimSpace(fmt.Sprint(v)); s != "" && s != "0" {
		return s
	}
	return map[bool]string{true: "–", false: "0"}[v == 0 || v == ""]
}

// page prints the table.
func page() string {
	var b strings.Builder
	b.WriteString(pageHead)
	all := All()
	head, rule := "| |", "|---|"
	for _, p := range all {
		head, rule = head+" "+p.Name+" |", rule+"---|"
	}
	fmt.Fprintf(&b, "%s\n%s\n", head, rule)
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s |", l.name)
		for _, p := range all {
			fmt.Fprintf(&b, " %s |", cell(l.of(&p)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestPage compares the page with the rows.
func TestPage(t *testing.T) {
	const name = "PERSONAS.md"
	if *update {
		if err := os.WriteFile(name, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != page() {
		t.Errorf("%s differs from the rows: run go test -run TestPage -update", name)
	}
}
