package report

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"teamtalk/bench"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	for _, want := range []any{lossy(), sweep(t)} {
		if err := WriteFile(path, want); err != nil {
			t.Fatal(err)
		}
		f, err := ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got any = f.Result
		if f.Sweep != nil {
			got = f.Sweep
		}
		if !reflect.DeepEqual(got, want) || f.Name != path {
			t.Errorf("%s was read back as %+v", path, got)
		}
	}
}

// TestFileWhole fails in the middle of a write. The file from before must remain, and no
// temporary file.
func TestFileWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.html")
	if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	err := WriteHTMLFile(path, func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return full
	})
	if !errors.Is(err, full) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	text, _ := os.ReadFile(path)
	left, _ := os.ReadDir(dir)
	if string(text) != "before" || len(left) != 1 {
		t.Errorf("%q, and %d files", text, len(left))
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                                     "empty",
		`{}`:                                   "neither a result nor a sweep",
		`[]`:                                   "line 1",
		`{"version":1,"totals":{},"steps":[]}`: "neither",
		`{"version":99,"totals":{}}`:           "newer build: its version is 99",
		`{"version":0,"totals":{}}`:            "older build",
		"{\n\"version\":1,\n\"totals\":}":      "line 3",
		"{\"version\":1,\n\"totals\":{},\n\"seconds\":\"x\"}": "line 3: seconds cannot be string",
		`{"version":1,"steps":[{}]}`:                          "step 1 has no result",
		`{"version":1,"steps":[{"result":{"version":99}}]}`:   "step 1 has version 99",
		`{"version":1,"totals":{}} more`:                      "not JSON",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
}

// FuzzRead checks that each file that Read accepts can be shown, or that an error gives
// the reason.
func FuzzRead(f *testing.F) {
	for _, v := range []any{fixture(), lossy(), sweep(f)} {
		var b bytes.Buffer
		if err := Write(&b, v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"version":1,"totals":{"acked":1},"seconds":1e-300,` +
		`"latencies":{"ack":{"count":9,"p50":1e300,"p99":1e-300}}}`))
	f.Add([]byte(`{"version":1,"totals":{},` +
		`"intervals":[{"at":-1e300,"seconds":1e300},{"at":1e300}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		if file.Sweep != nil {
			_ = SweepText(io.Discard, file.Sweep, true)
			_ = SweepMarkdown(io.Discard, file.Sweep)
			_ = SweepHTML(io.Discard, file.Sweep)
			return
		}
		_ = Text(io.Discard, file.Result, true)
		_ = HTML(io.Discard, file.Result)
		c, err := Compare([]*File{file, {Result: &bench.Result{}}, file}, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Markdown(io.Discard)
		_ = c.HTML(io.Discard)
	})
}
