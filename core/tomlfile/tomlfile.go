// Package tomlfile reads what a decoder of TOML does not: the text of a file as editors write it,
// the lines of its keys, and the line of an error.
package tomlfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// byteOrderMark is what some editors write before the text of a file in UTF-8.
const byteOrderMark = "\ufeff"

// PlainText returns the content of a file of TOML without the mark that editors on Windows
// write at its begin. It returns an error for UTF-16, since TOML allows only UTF-8.
func PlainText(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, errors.New("the file is in UTF-16: save it in UTF-8")
	}
	return bytes.TrimPrefix(data, []byte(byteOrderMark)), nil
}

// Located returns an error of a decoder with the line of the file that is wrong.
func Located(file string, err error) error {
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		row, _ := unknown.Errors[0].Position()
		return fmt.Errorf("%s:%d: no such key: %s", file, row,
			strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &bad):
		row, _ := bad.Position()
		return fmt.Errorf("%s:%d: %w", file, row, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// KeyLines returns the line of every key and table of a valid document. The decoder
// reports lines only for unknown keys, and errors in values need them too.
func KeyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = addKeyLines(lines, &p, "", e)
			if table != "" {
				table += "."
			}
		case unstable.KeyValue:
			addValueLines(lines, &p, table, e)
		}
	}
	return lines
}

func addValueLines(lines map[string]int, p *unstable.Parser, prefix string, e *unstable.Node) {
	key := addKeyLines(lines, p, prefix, e)
	if v := e.Value(); v.Valid() && v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				addValueLines(lines, p, key+".", n)
			}
		}
	}
}

// addKeyLines stores the line of each prefix of e's key (for a.b.c: a, a.b and a.b.c)
// unless an earlier line has that prefix. It returns the whole key.
func addKeyLines(lines map[string]int, p *unstable.Parser, prefix string, e *unstable.Node) string {
	var key string
	for it := e.Key(); it.Next(); {
		n := it.Node()
		key = prefix + string(n.Data)
		if _, ok := lines[key]; !ok {
			lines[key] = p.Shape(n.Raw).Start.Line
		}
		prefix = key + "."
	}
	return key
}
