package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Asker asks a person at a terminal, before the chat has it.
type Asker struct {
	ctx context.Context
	in  *os.File
	out io.Writer
}

// NewAsker makes an asker for a terminal.
func NewAsker(ctx context.Context, in *os.File, out io.Writer) *Asker {
	return &Asker{ctx: ctx, in: in, out: out}
}

// say writes a line.
func (a *Asker) say(format string, args ...any) {
	fmt.Fprintln(a.out, CleanLine(fmt.Sprintf(format, args...)))
}

// line asks for a line of text, without blanks around it.
func (a *Asker) line(prompt string) (string, error) {
	text, err := a.ask(prompt, func() ([]byte, error) { return readLine(a.in) })
	return strings.TrimSpace(text), err
}

// yes asks a question whose answer is no unless somebody says yes.
func (a *Asker) yes(question string) (bool, error) {
	text, err := a.line(question + " [y/N] ")
	text = strings.ToLower(text)
	return text == "y" || text == "yes", err
}

// secret asks for something that is not shown while it is typed.
func (a *Asker) secret(prompt string) (string, error) {
	text, err := a.ask(prompt, func() ([]byte, error) { return term.ReadPassword(int(a.in.Fd())) })
	fmt.Fprintln(a.out)
	return text, err
}

// ask reads with the terminal as it was before and is again after, also when the command is interrupted.
func (a *Asker) ask(prompt string, read func() ([]byte, error)) (string, error) {
	fmt.Fprint(a.out, prompt)
	state, err := term.GetState(int(a.in.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	type answer struct {
		text []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := read()
		got <- answer{text, err}
	}()
	select {
	case r := <-got:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fmt.Errorf("ask: %w", r.err)
		}
		return string(r.text), nil
	case <-a.ctx.Done():
		_ = term.Restore(int(a.in.Fd()), state)
		return "", errInterrupted
	}
}

// errInterrupted is the end of a command that somebody interrupted while it asked.
var errInterrupted = &Error{Code: exitFailed, Err: errors.New("interrupted")}

// maxAnswer is the longest line taken, in bytes.
const maxAnswer = 4096

// readLine reads up to the end of the line and not a byte more: what was typed ahead is for the chat.
func readLine(in io.Reader) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxAnswer {
		n, err := in.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return line, nil
		case n == 1:
			line = append(line, one[0])
		case err != nil:
			return line, err
		}
	}
	return nil, errors.New("line is too long")
}
