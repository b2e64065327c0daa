package terminal

import (
	"strings"
)

// completer completes the names of commands, users and groups.
type completer struct{ *commands }

// Do implements readline.AutoCompleter.
func (c completer) Do(line []rune, pos int) ([][]rune, int) {
	typed := string(line[:pos])
	var choices []string
	word := typed
	if name, arg, ok := strings.Cut(typed, " "); ok && strings.HasPrefix(typed, "/") {
		if !takesName(strings.TrimPrefix(name, "/")) {
			return nil, 0
		}
		word, choices = lastWord(arg), c.nameChoices(name, arg)
	} else if strings.HasPrefix(typed, "/") {
		choices = commandNames()
	}
	var out [][]rune
	n := len([]rune(word))
	for _, choice := range choices {
		if r := []rune(choice); len(r) >= n && strings.EqualFold(string(r[:n]), word) {
			out = append(out, append(r[n:len(r):len(r)], ' '))
		}
	}
	return out, n
}

// lastWord returns the last word of an argument. Spaces in quotation marks or behind a
// backslash are parts of a word.
func lastWord(arg string) string {
	start, quoted := 0, false
	for i, r := range arg {
		switch r {
		case '"':
			quoted = !quoted
		case ' ':
			if !quoted && (i == 0 || arg[i-1] != '\\') {
				start = i + 1
			}
		}
	}
	return arg[start:]
}

// nameChoices returns the names that may end the argument of a command.
func (cm *commands) nameChoices(command, arg string) []string {
	c, _ := findCommand(strings.ToLower(strings.TrimPrefix(command, "/")))
	var choices []string
	if c.name() == "group" && !strings.Contains(arg, " ") {
		return []string{"create", "add", "remove", "leave", "show"}
	}
	if c.name() != "mute" && c.name() != "unmute" {
		choices = cm.s.Book.Names()
	}
	choices = append(choices, cm.s.Book.GroupNames()...)
	for i, name := range choices {
		choices[i] = quoteWord(name, strings.Contains(lastWord(arg), "\""))
	}
	return choices
}
