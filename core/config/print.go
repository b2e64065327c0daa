package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// WriteReference writes every setting with its meaning and its default as a TOML file.
// The settings are commented out: a file made from it states only the differences, and
// gets the new value when a later version improves a default.
func WriteReference(w io.Writer) error {
	defaults := Default()
	return write(w, func(b *bufio.Writer, s Setting) {
		for _, line := range wrap(s.Doc, 100) {
			fmt.Fprintf(b, "# %s\n", line)
		}
		_, name := cutLast(s.Key)
		note, value := s.note(), s.toml(defaults)
		if note != "" {
			note = "  # " + note
		}
		if s.Type == "secret" { // a default is no secret
			value = quoteTOML(s.Default)
		}
		fmt.Fprintf(b, "#%s = %s%s\n\n", name, value, note)
	})
}

// WriteEffective writes every setting with its value and its source as a TOML file.
// Secrets are masked.
func (c *Config) WriteEffective(w io.Writer) error {
	return write(w, func(b *bufio.Writer, s Setting) {
		_, name := cutLast(s.Key)
		fmt.Fprintf(b, "%s = %s  # %s\n", name, s.toml(c), c.Origin(s.Key))
	})
}

// Value is the value of a setting, for people.
type Value struct {
	Key    string
	Text   string // as in a file of settings; secrets are masked
	Origin Origin
	// Reloads says what SIGHUP does with it, see Setting.Reloads.
	Reloads string
}

// Effective returns the values of all settings.
func (c *Config) Effective() []Value {
	settings := Settings()
	list := make([]Value, len(settings))
	for i, s := range settings {
		list[i] = Value{s.Key, s.toml(c), c.Origin(s.Key), s.Reloads()}
	}
	return list
}

// note returns the words that a setting allows, unless its default shows what it takes, and what
// SIGHUP does with it, if anything.
func (s Setting) note() string {
	words := strings.ReplaceAll(allowedWords(s.tag), "|", ", ")
	if again := s.Reloads(); words != "" && again != "" {
		return words + "; " + again
	}
	return words + s.Reloads()
}

func write(w io.Writer, each func(*bufio.Writer, Setting)) error {
	b := bufio.NewWriter(w)
	settings, sections := definition()
	current := ""
	for _, s := range settings {
		if section, _ := cutLast(s.Key); section != current {
			current = section
			for _, sec := range sections {
				if sec.name == current {
					doc := strings.Join(wrap(sec.doc, 100), "\n# ")
					fmt.Fprintf(b, "\n# %s\n[%s]\n", doc, sec.name)
				}
			}
		}
		each(b, s)
	}
	return b.Flush()
}

// wrap breaks a text into lines of at most width bytes. A longer word is a line of its
// own.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
