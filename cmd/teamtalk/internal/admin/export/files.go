package export

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"teamtalk/core/im"
)

// copied is a file to be copied.
type copied struct {
	Name string `json:"name"` // in the export
	URL  string `json:"url,omitempty"`
	Path string `json:"path,omitempty"` // of a waiting file
}

// copyLater notes a small file to be copied, and returns its name in the export: empty when it is
// not here, or url is empty. A bucket that does not answer is an error.
func (e *exporter) copyLater(url string) (string, error) {
	if url == "" {
		return "", nil
	}
	b, err := e.Open(e.ctx, url)
	switch {
	case err == nil:
		return e.note(copied{Name: "files/" + path.Base(url), URL: url}), b.Close()
	case im.KindOf(err) == im.NotFound, im.KindOf(err) == im.Invalid: // not its URL
		return "", nil
	}
	return "", err
}

// note notes a file to be copied once.
func (e *exporter) note(c copied) string {
	if _, again := e.seen[c.Name]; !again {
		e.seen[c.Name] = struct{}{}
		_ = e.line.Encode(c) // copyFiles reports a failure of the disk
	}
	return c.Name
}

// copyFiles copies the files that were noted. One that was deleted meanwhile is missing.
func (e *exporter) copyFiles() error {
	if _, err := e.copies.Seek(0, io.SeekStart); err != nil {
		return err
	}
	noted := 0
	dec := json.NewDecoder(bufio.NewReader(e.copies))
	for ; ; noted++ {
		var c copied
		if err := dec.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read %s: %w", e.copies.Name(), err)
		}
		if err := e.copyFile(c); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	if noted != len(e.seen) {
		return fmt.Errorf("%s has %d files, not %d: is the disk full?", e.copies.Name(), noted,
			len(e.seen))
	}
	return nil
}

// copyFile copies a file.
func (e *exporter) copyFile(c copied) error {
	var in io.ReadCloser
	var err error
	if c.Path != "" {
		in, err = os.Open(c.Path)
	} else if b, opening := e.Open(e.ctx, c.URL); opening != nil {
		err = opening
	} else {
		in = b
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && im.KindOf(err) == im.NotFound:
		e.report.Missing++
		return nil
	case err != nil:
		return err
	}
	defer in.Close()
	w, err := e.sink.create(c.Name)
	if err != nil {
		return err
	}
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if _, err = io.Copy(w, in); err == nil {
		e.report.Files++
	}
	return err
}
