package admin

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// GeneratePasswords generates the missing passwords, and returns them with the names of
// their users.
func GeneratePasswords(users []NewUser) (made [][]string) {
	for i := range users {
		if users[i].Password == "" {
			users[i].Password = GeneratePassword()
			made = append(made, []string{users[i].Name, users[i].Password})
		}
	}
	return made
}

// Problems collects the errors of a file, so that the user can correct all of them at
// once.
type Problems struct {
	lines []string
	more  int
}

// maxProblems is how many problems of a file an error lists.
const maxProblems = 20

// Add adds a problem of a line. Problems beyond maxProblems are only counted.
func (p *Problems) Add(line int, format string, args ...any) {
	if len(p.lines) == maxProblems {
		p.more++
		return
	}
	p.lines = append(p.lines, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

// Err returns the problems as one error with a line for each; nil without problems.
func (p *Problems) Err() error {
	if len(p.lines) == 0 {
		return nil
	}
	if p.more > 0 {
		return &fileError{append(p.lines, fmt.Sprintf("… and %d more problems", p.more))}
	}
	return &fileError{p.lines}
}

// fileError holds the problems of a file, one a line.
type fileError struct{ lines []string }

// Error returns the problems, one a line.
func (e *fileError) Error() string { return strings.Join(e.lines, "\n") }

// Problems returns the problems, with their lines.
func (e *fileError) Problems() []string { return e.lines }

// InFile adds the name of the file to each line of an error, and says that no user was
// added.
func InFile(name string, err error) error {
	bad, ok := err.(*fileError)
	if !ok {
		return fmt.Errorf("%s: %w", name, err)
	}
	lines := make([]string, len(bad.lines), len(bad.lines)+1)
	for i, l := range bad.lines {
		lines[i] = name + ": " + l
	}
	return &fileError{append(lines, "no user was added")}
}

// columns holds the setters of the columns of a file of users, by their names in the
// header.
var columns = map[string]func(u *NewUser, text string) error{
	"name":     func(u *NewUser, text string) error { u.Name = text; return nil },
	"password": func(u *NewUser, text string) error { u.Password = text; return nil },
	"nick":     func(u *NewUser, text string) error { u.Nick = text; return nil },
	"domain":   func(u *NewUser, text string) error { u.Domain = text; return nil },
	"phone":    func(u *NewUser, text string) error { u.Phone = text; return nil },
	"email":    func(u *NewUser, text string) error { u.Email = text; return nil },
	"avatar":   func(u *NewUser, text string) error { u.Avatar = text; return nil },
	"gender": func(u *NewUser, text string) (err error) {
		u.Gender, err = ParseGender(text)
		return err
	},
	"department": func(u *NewUser, text string) error { u.Department = text; return nil },
}

// ReadUsers reads and checks a file of users. Missing passwords stay empty.
func ReadUsers(in io.Reader) ([]NewUser, error) {
	r := csv.NewReader(SkipBOM(in))
	r.FieldsPerRecord = -1 // readUser reports a wrong number of fields
	header, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	var bad Problems
	var users []NewUser
	seen := map[string]int{}
	for {
		record, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, csvError(err)
		}
		line, _ := r.FieldPos(0)
		u, err := readUser(header, record)
		if err != nil {
			bad.Add(line, "%v", err)
			continue
		}
		u.Line = line
		if first, twice := seen[FoldName(u.Name)]; twice {
			bad.Add(line, "the name %q is in line %d already", u.Name, first)
			continue
		}
		seen[FoldName(u.Name)] = line
		users = append(users, u)
	}
	if len(users) == 0 && bad.Err() == nil {
		bad.Add(1, "there are no users below the header")
	}
	return users, bad.Err()
}

// wantUTF8 tells what to do about another encoding, which spreadsheets choose for a file that is
// called CSV only.
const wantUTF8 = "the file is not UTF-8: save it as CSV UTF-8"

// headerHint explains the header of a file of users.
const headerHint = "the first line must name the columns, as in: name,password,nick,email"

// readHeader returns the names of the columns, in order.
func readHeader(r *csv.Reader) ([]string, error) {
	header, err := r.Read()
	if err == io.EOF {
		return nil, &fileError{[]string{"the file is empty; " + headerHint}}
	}
	if err != nil {
		return nil, csvError(err)
	}
	var bad Problems
	seen := map[string]bool{}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		header[i] = name
		if columns[name] == nil {
			hint := "known are name, password, nick, domain, gender, phone, email, avatar, " +
				"department"
			switch {
			case strings.ContainsRune(name, 0) || !utf8.ValidString(name):
				hint = wantUTF8
			case strings.ContainsAny(name, ";\t"):
				hint = "columns are separated by commas"
			}
			bad.Add(1, "there is no column %q; %s", name, hint)
		}
		if seen[name] {
			bad.Add(1, "the header names column %q twice", name)
		}
		seen[name] = true
	}
	if !seen["name"] && bad.Err() == nil {
		bad.Add(1, "there is no column \"name\"; %s", headerHint)
	}
	return header, bad.Err()
}

// readUser returns the user of a record.
func readUser(header, record []string) (NewUser, error) {
	var u NewUser
	if len(record) != len(header) {
		return u, fmt.Errorf("%d fields where the header has %d", len(record), len(header))
	}
	for i, text := range record {
		if !utf8.ValidString(text) {
			return u, fmt.Errorf("%s %q: %s", header[i], text, wantUTF8)
		}
		if header[i] != "password" { // a password may begin with a blank
			text = strings.TrimSpace(text)
		}
		if err := columns[header[i]](&u, text); err != nil {
			return u, err
		}
	}
	checked := u
	if checked.Password == "" {
		checked.Password = "made up later"
	}
	err := checked.Complete()
	checked.Password = u.Password
	return checked, err
}

// csvError returns an error of the CSV reader as a fileError.
func csvError(err error) error {
	if e, ok := err.(*csv.ParseError); ok {
		return &fileError{[]string{fmt.Sprintf("line %d: %v", e.Line, e.Err)}}
	}
	return err
}

// SkipBOM skips the byte order mark that spreadsheets write before UTF-8.
func SkipBOM(in io.Reader) io.Reader {
	b := bufio.NewReader(in)
	if mark, _ := b.Peek(3); string(mark) == "\xef\xbb\xbf" {
		b.Discard(3) // cannot fail after the Peek
	}
	return b
}
