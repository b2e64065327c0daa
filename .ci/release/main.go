// Release makes the files of a release: static binaries for Linux, archives with the pages and the
// examples, Debian packages, images, lists of what is in them (SBOM), and SHA256SUMS. The same
// commit and the same version of Go give the same bytes, on any machine and in any folder.
//
//	go -C .ci/release run . -version v0.1.0 -out dist
//
// It is a module of its own, so that the servers do not depend on what writes images.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// release is what the files of a release are made from.
type release struct {
	source  string // a copy of the repository as it is in the commit
	out     string // the folder for the files
	work    string // a folder for what lies between
	version string // v0.1.0
	commit  string
	date    time.Time // of the commit, or of SOURCE_DATE_EPOCH
	// maintainer is the name and address in the Debian package.
	maintainer string
	// architectures are the values of GOARCH of the binaries.
	architectures []string

	pages    []string // files of the repository that go with the binary, seen from source
	licences []byte   // of the libraries in the binary
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// validVersion matches the versions of releases.
var validVersion = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)

func run() error {
	r := &release{}
	flag.StringVar(&r.version, "version", "", "`version` of the release, such as v0.1.0")
	flag.StringVar(&r.out, "out", "dist",
		"`folder` for the files, seen from the top of the repository")
	flag.StringVar(&r.maintainer, "maintainer", "TeamTalk maintainers <teamtalk@localhost>",
		"`name` and address in the Debian package")
	architectures := flag.String("arch", "amd64,arm64", "`architectures`, separated by commas")
	flag.Parse()
	r.architectures = strings.Split(*architectures, ",")
	if !validVersion.MatchString(r.version) {
		return fmt.Errorf("-version %q: want one such as v0.1.0 or v0.1.0-rc.1", r.version)
	}
	work, err := os.MkdirTemp("", "teamtalk-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r.work = work
	if err := r.look(); err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if r.licences, err = r.collectLicences(); err != nil {
		return fmt.Errorf("licences: %w", err)
	}
	for _, arch := range r.architectures {
		if err := r.makeArchitecture(arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	if err := r.makeImages(); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return r.sum()
}

// look finds the repository, the commit, its date and the pages, and copies what is in the commit.
func (r *release) look() error {
	top, err := output("", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if !filepath.IsAbs(r.out) {
		r.out = filepath.Join(top, r.out)
	}
	changes, err := output(top, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" {
		fmt.Fprintln(os.Stderr, "release: changes that are not committed are not in it")
	}
	if r.commit, err = output(top, "git", "rev-parse", "HEAD"); err != nil {
		return err
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = output(top, "git", "log", "-1", "--format=%ct"); err != nil {
			return err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH=%s is no number of seconds", epoch)
	}
	r.date = time.Unix(seconds, 0).UTC()
	if err := r.copySource(top); err != nil {
		return err
	}
	list, err := output(top, "git", "ls-tree", "-r", "--name-only", r.commit)
	if err != nil {
		return err
	}
	for _, file := range strings.Split(list, "\n") {
		if isPage(file) {
			r.pages = append(r.pages, file)
		}
	}
	return nil
}

// isPage reports whether a file of the repository goes with the binary: pages, and examples.
func isPage(file string) bool {
	switch {
	case strings.Contains(file, "testdata/"), strings.HasPrefix(file, "findings/"):
		return false
	}
	return file == "LICENSE" || strings.HasSuffix(file, ".md") ||
		strings.HasPrefix(file, "cmd/teamtalk/example/")
}

// copySource copies the files of the commit.
func (r *release) copySource(top string) error {
	r.source = filepath.Join(r.work, "source")
	if err := os.Mkdir(r.source, 0o755); err != nil {
		return err
	}
	archive := filepath.Join(r.work, "source.tar")
	if _, err := output(top, "git", "archive", "--output", archive, r.commit); err != nil {
		return err
	}
	_, err := output(r.source, "tar", "xf", archive)
	return err
}

// output runs a command in a folder and returns what it prints.
func output(dir, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir, c.Stderr = dir, os.Stderr
	text, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(text)), nil
}

// makeArchitecture makes the binary for an architecture, and what is made from it.
func (r *release) makeArchitecture(arch string) error {
	binary, err := r.build(arch)
	if err != nil {
		return err
	}
	if err := r.list(arch, binary); err != nil {
		return fmt.Errorf("list of contents: %w", err)
	}
	if err := r.archive(arch, binary); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if err := r.debian(arch, binary); err != nil {
		return fmt.Errorf("Debian package: %w", err)
	}
	return nil
}

// binary returns the path of the binary for an architecture.
func (r *release) binary(arch string) string { return filepath.Join(r.work, arch, "teamtalk") }

// build makes the binary for an architecture, and returns its path. Nothing in it depends on the
// folder, the time or the machine.
func (r *release) build(arch string) (string, error) {
	binary := r.binary(arch)
	flags := fmt.Sprintf("-s -w -buildid= -X main.version=%s -X main.revision=%s -X main.built=%s",
		r.version, r.commit, r.date.Format(time.RFC3339))
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags,
		"-o", binary, "./cmd/teamtalk")
	c.Dir, c.Stderr = r.source, os.Stderr
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off")
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("go build: %w", err)
	}
	return binary, nil
}

// name returns the name of a file of the release.
func (r *release) name(arch, suffix string) string {
	return fmt.Sprintf("teamtalk-%s-linux-%s%s", r.version, arch, suffix)
}

// sum writes SHA256SUMS, and prints it.
func (r *release) sum() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var lines []string
	for _, e := range entries {
		f, err := os.Open(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", h.Sum(nil), e.Name()))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	text := strings.Join(lines, "")
	fmt.Print(text)
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(text), 0o644)
}
