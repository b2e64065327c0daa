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

// Prompter puts questions to the user before the session exists.
type Prompter interface {
	// Say shows a line of text.
	Say(text string)
	// Line asks for a line of text, and returns it without surrounding blanks.
	Line(prompt string) (string, error)
	// Secret asks for a line that is not shown while it is typed.
	Secret(prompt string) (string, error)
}

// yes asks a question. Any answer but y and yes is no.
func yes(p Prompter, question string) (bool, error) {
	text, err := p.Line(question + " [y/N] ")
	text = strings.ToLower(text)
	return text == "y" || text == "yes", err
}

// terminalPrompter asks at a terminal, before the frontend uses it.
type terminalPrompter struct {
	ctx context.Context
	in  *os.File
	out io.Writer
}

// NewPrompter returns a Prompter for the terminal in. It writes questions to out. The end
// of ctx interrupts a question.
func NewPrompter(ctx context.Context, in *os.File, out io.Writer) Prompter {
	return &terminalPrompter{ctx: ctx, in: in, out: out}
}

// Say writes a line.
func (p *terminalPrompter) Say(text string) { fmt.Fprintln(p.out, CleanLine(text)) }

// Line asks for a line of text.
func (p *terminalPrompter) Line(prompt string) (string, error) {
	text, err := p.ask(prompt, func(in *os.File) (func() ([]byte, error), error) {
		return func() ([]byte, error) { return readLine(in) }, nil
	})
	return strings.TrimSpace(text), err
}

// Secret asks for a line without showing it.
func (p *terminalPrompter) Secret(prompt string) (string, error) {
	text, err := p.ask(prompt, secretReader)
	fmt.Fprintln(p.out)
	return text, err
}

// ask prepares the terminal, writes a prompt and reads the answer. The terminal is prepared
// before the prompt: the user may answer as soon as the prompt is shown. ask restores the state
// of the terminal. When the context ends, it returns errInterrupted.
func (p *terminalPrompter) ask(prompt string,
	prepare func(*os.File) (func() ([]byte, error), error)) (string, error) {
	fd := int(p.in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = term.Restore(fd, state) }() // there is nothing left to do about it
	read, err := prepare(p.in)
	if err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	fmt.Fprint(p.out, prompt)
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
	case <-p.ctx.Done():
		return "", errInterrupted
	}
}

// errInterrupted is returned when the user interrupts the command during a question.
var errInterrupted = &Error{Code: exitFailed, Err: errors.New("interrupted")}

// maxAnswer is the longest answer, in bytes.
const maxAnswer = 4096

// readLine reads up to the end of the line and not a byte more: text that was typed ahead
// is for the frontend.
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
	return nil, fmt.Errorf("the line has more than %d bytes", maxAnswer)
}
