package terminal

import "strings"

// splitWords cuts an argument at spaces. A text in quotation marks is one word, with # or
// @ before it if they are there. A space behind a backslash is a part of the word.
func splitWords(s string) []string {
	var words []string
	for {
		var word string
		if word, s = cutWord(s); word == "" && s == "" {
			return words
		}
		if word != "" {
			words = append(words, word)
		}
	}
}

// cutWord removes the first word from an argument.
func cutWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " ")
	mark := ""
	if strings.HasPrefix(s, "#\"") || strings.HasPrefix(s, "@\"") {
		mark, s = s[:1], s[1:]
	}
	if strings.HasPrefix(s, "\"") {
		if word, rest, ok := strings.Cut(s[1:], "\""); ok {
			return mark + word, strings.TrimLeft(rest, " ")
		}
	}
	end := 0
	for end < len(s) && (s[end] != ' ' || end > 0 && s[end-1] == '\\') {
		end++
	}
	return mark + strings.ReplaceAll(s[:end], `\ `, " "), strings.TrimLeft(s[end:], " ")
}

// quoteWord returns a name in the form that splitWords takes for one word, with quotation
// marks or with backslashes.
func quoteWord(name string, marks bool) string {
	switch {
	case !strings.Contains(name, " "):
		return name
	case !marks:
		return strings.ReplaceAll(name, " ", `\ `)
	case strings.HasPrefix(name, "#"), strings.HasPrefix(name, "@"):
		return name[:1] + "\"" + name[1:] + "\""
	}
	return "\"" + name + "\""
}
