package report

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// tone is the meaning of a text, which sets its colour. The text itself states it too.
type tone string

const (
	plain tone = ""
	good  tone = "good"
	bad   tone = "bad"
	warn  tone = "warn"
	faint tone = "faint"
	head  tone = "head"
)

// ansi returns the escape sequence of a tone for a terminal.
func (t tone) ansi() string {
	switch t {
	case good:
		return "\x1b[32m"
	case bad:
		return "\x1b[1;31m"
	case warn:
		return "\x1b[33m"
	case faint:
		return "\x1b[2m"
	case head:
		return "\x1b[1m"
	}
	return ""
}

// paint colours a text for a terminal.
func paint(color bool, t tone, text string) string {
	if !color || t == plain || text == "" {
		return text
	}
	return t.ansi() + text + "\x1b[m"
}

// cell is a cell of a table.
type cell struct {
	Text string
	Tone tone
}

func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, t := range texts {
		row[i].Text = t
	}
	return row
}

// table is written for a terminal, as Markdown and as HTML. The first column holds words,
// and with Words the last one too: they are aligned to the left. The other columns hold
// numbers, aligned to the right.
type table struct {
	Head  []string
	Rows  [][]cell
	Words bool
}

// Left reports whether column i is aligned to the left.
func (t *table) Left(i int) bool { return i == 0 || t.Words && i == len(t.Head)-1 }

// oneLine replaces control characters, so that a text from a file cannot move the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Class returns the CSS class of a cell.
func (t *table) Class(i int, c cell) string {
	class := "n"
	if t.Left(i) {
		class = "w"
	}
	if c.Tone != plain {
		class += " " + string(c.Tone)
	}
	return class
}

// text writes the table for a terminal.
func (t *table) text(w io.Writer, color bool) error {
	for _, row := range t.Rows {
		for i := range row {
			row[i].Text = oneLine(row[i].Text)
		}
	}
	width := make([]int, len(t.Head))
	for i, h := range t.Head {
		width[i] = runewidth.StringWidth(h)
		for _, row := range t.Rows {
			if i < len(row) {
				width[i] = max(width[i], runewidth.StringWidth(row[i].Text))
			}
		}
	}
	line := func(row []cell) error {
		var b, s strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-runewidth.StringWidth(c.Text))
			if i > 0 {
				s.WriteString("   ")
			}
			text := paint(color, c.Tone, c.Text)
			if t.Left(i) {
				b.WriteString(s.String() + text)
				s.Reset()
				s.WriteString(pad) // written only when another cell follows
			} else {
				b.WriteString(s.String() + pad + text)
				s.Reset()
			}
		}
		_, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		return err
	}
	top := cells(t.Head...)
	for i := range top {
		top[i].Tone = faint
	}
	if err := line(top); err != nil {
		return err
	}
	for _, row := range t.Rows {
		if err := line(row); err != nil {
			return err
		}
	}
	return nil
}

// markdown writes the table as Markdown. Bad values are bold.
func (t *table) markdown(w io.Writer) error {
	var b strings.Builder
	row := func(cs []cell) {
		for _, c := range cs {
			text := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(oneLine(c.Text))
			if c.Tone == bad {
				text = "**" + text + "**"
			}
			b.WriteString("| " + text + " ")
		}
		b.WriteString("|\n")
	}
	row(cells(t.Head...))
	for i := range t.Head {
		if t.Left(i) {
			b.WriteString("|---")
		} else {
			b.WriteString("|---:")
		}
	}
	b.WriteString("|\n")
	for _, r := range t.Rows {
		row(r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// HTML returns the table as HTML.
func (t *table) HTML() template.HTML {
	var b strings.Builder
	b.WriteString("<table><thead><tr>")
	for i, h := range t.Head {
		fmt.Fprintf(&b, `<th class="%s">%s</th>`, t.Class(i, cell{}), template.HTMLEscapeString(h))
	}
	b.WriteString("</tr></thead>\n<tbody>\n")
	for _, row := range t.Rows {
		b.WriteString("<tr>")
		for i, c := range row {
			fmt.Fprintf(&b, `<td class="%s">%s</td>`, t.Class(i, c),
				template.HTMLEscapeString(c.Text))
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</tbody></table>")
	return template.HTML(b.String())
}

// note is a line beside the tables.
type note struct {
	Tone tone
	Text string
}

// part is a heading with notes and a table. Each of them may be missing.
type part struct {
	Title string
	Notes []note
	Table *table
}

// writeParts writes parts for a terminal.
func writeParts(w io.Writer, parts []part, color bool) error {
	for i, p := range parts {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if p.Title != "" {
			if _, err := fmt.Fprintln(w, paint(color, head, oneLine(p.Title))); err != nil {
				return err
			}
		}
		for _, n := range p.Notes {
			if _, err := fmt.Fprintln(w, paint(color, n.Tone, oneLine(n.Text))); err != nil {
				return err
			}
		}
		if p.Table != nil {
			if err := p.Table.text(w, color); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeMarkdown writes parts as Markdown. Bad and doubtful notes are bold.
func writeMarkdown(w io.Writer, parts []part) error {
	for i, p := range parts {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if p.Title != "" {
			if _, err := fmt.Fprintf(w, "### %s\n\n", oneLine(p.Title)); err != nil {
				return err
			}
		}
		for _, n := range p.Notes {
			text := strings.ReplaceAll(oneLine(n.Text), "<", "&lt;")
			if n.Tone == bad || n.Tone == warn {
				text = "**" + text + "**"
			}
			if _, err := fmt.Fprintf(w, "- %s\n", text); err != nil {
				return err
			}
		}
		if p.Table != nil && len(p.Notes) > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if p.Table != nil {
			if err := p.Table.markdown(w); err != nil {
				return err
			}
		}
	}
	return nil
}
