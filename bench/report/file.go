package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"teamtalk/bench"
)

// File is the content of a JSON file: either Result or Sweep is set.
type File struct {
	// Name is the path that the file was read from.
	Name   string
	Result *bench.Result
	Sweep  *bench.Sweep
}

// maxFile bounds the size of a file, in bytes. A soak of a day with intervals of a second
// takes a tenth of it.
const maxFile = 1 << 30

// ReadFile reads a JSON file that WriteFile wrote.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file.Name = path
	return file, nil
}

// Read reads a result or a sweep. It rejects other versions, because their values may
// have another meaning.
func Read(r io.Reader) (*File, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("longer than %d MiB, the longest result of bench", maxFile>>20)
	}
	var kind struct {
		Version *int             `json:"version"`
		Totals  *json.RawMessage `json:"totals"`
		Steps   *json.RawMessage `json:"steps"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, explain(text, err)
	}
	var f File
	var into any
	var wanted int
	switch {
	case kind.Version == nil || (kind.Totals == nil) == (kind.Steps == nil):
		return nil, errors.New("neither a result nor a sweep of bench: want version, and totals " +
			"or steps")
	case kind.Steps != nil:
		f.Sweep, wanted = &bench.Sweep{}, bench.SweepVersion
		into = f.Sweep
	default:
		f.Result, wanted = &bench.Result{}, bench.ResultVersion
		into = f.Result
	}
	switch v := *kind.Version; {
	case v > wanted:
		return nil, fmt.Errorf("written by a newer build: its version is %d, this build reads "+
			"version %d", v, wanted)
	case v < wanted:
		return nil, fmt.Errorf("written by an older build: its version is %d, this build reads "+
			"version %d; measure again", v, wanted)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, explain(text, err)
	}
	if f.Sweep != nil {
		return &f, checkSweep(f.Sweep)
	}
	return &f, nil
}

// checkSweep rejects values that RunSweep never writes.
func checkSweep(s *bench.Sweep) error {
	for i := range s.Steps {
		switch r := s.Steps[i].Result; {
		case r == nil:
			return fmt.Errorf("step %d has no result", i+1)
		case r.Version != bench.ResultVersion:
			return fmt.Errorf("step %d has version %d, this build reads version %d", i+1, r.Version,
				bench.ResultVersion)
		}
	}
	return nil
}

// explain adds the line of the file to an error.
func explain(text []byte, err error) error {
	var offset int64
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	switch {
	case len(text) == 0:
		return errors.New("the file is empty")
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &wrongType):
		offset = wrongType.Offset
	default:
		return fmt.Errorf("not JSON: %w", err)
	}
	line := 1
	for _, b := range text[:min(int64(len(text)), max(0, offset))] {
		if b == '\n' {
			line++
		}
	}
	if syntax != nil {
		return fmt.Errorf("not JSON: line %d: %w", line, err)
	}
	return fmt.Errorf("line %d: %s cannot be %s", line, wrongType.Field, wrongType.Value)
}

// Write writes a *bench.Result or *bench.Sweep as JSON.
func Write(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return enc.Encode(v)
}

// WriteFile writes a *bench.Result or *bench.Sweep as a JSON file.
func WriteFile(path string, v any) error {
	return replaceFile(path, func(w io.Writer) error { return Write(w, v) })
}

// WriteHTMLFile writes a page. page is one of the functions named HTML.
func WriteHTMLFile(path string, page func(io.Writer) error) error { return replaceFile(path, page) }

// replaceFile writes a temporary file beside path and renames it once it is complete. A
// full disk then cannot replace the result of a long run by half a file. A path that is
// not a regular file, such as /dev/stdout, is written directly.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
