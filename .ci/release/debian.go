package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// scripts are the files of the folder debian: the maintainer scripts, the settings of a new server,
// and the account for systemd-sysusers.
//
//go:embed debian
var scripts embed.FS

// debian makes the Debian package for an architecture. dpkg-deb gives all files to root and takes
// later dates for SOURCE_DATE_EPOCH.
func (r *release) debian(arch, binary string) error {
	root := filepath.Join(r.work, arch, "debian")
	p := &packageTree{root: root}
	p.copied("usr/bin/teamtalk", 0o755, binary)
	p.script("etc/teamtalk/teamtalk.toml", 0o644)
	p.script("usr/lib/sysusers.d/teamtalk.conf", 0o644)
	for _, unit := range []string{"teamtalk.service", "teamtalk@.service"} {
		text, err := os.ReadFile(filepath.Join(r.source, "cmd/teamtalk/example", unit))
		if err != nil {
			return err
		}
		p.file("lib/systemd/system/"+unit, 0o644,
			strings.ReplaceAll(string(text), "/usr/local/bin/", "/usr/bin/"))
	}
	licence, err := os.ReadFile(filepath.Join(r.source, "LICENSE"))
	if err != nil {
		return err
	}
	p.file("usr/share/doc/teamtalk/copyright", 0o644, string(licence)+"\n"+string(r.licences))
	for _, page := range r.pages {
		if page != "LICENSE" {
			p.copied("usr/share/doc/teamtalk/"+page, 0o644, filepath.Join(r.source, page))
		}
	}
	p.file("DEBIAN/control", 0o644, r.control(arch, p.size))
	p.file("DEBIAN/conffiles", 0o644, "/etc/teamtalk/teamtalk.toml\n")
	for _, s := range []string{"postinst", "prerm", "postrm"} {
		p.script("DEBIAN/"+s, 0o755)
	}
	if p.err != nil {
		return p.err
	}
	version := strings.TrimPrefix(r.version, "v")
	file := filepath.Join(r.out, fmt.Sprintf("teamtalk_%s_%s.deb", debianVersion(version), arch))
	c := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "--threads-max=1",
		"--build", root, file)
	c.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.date.Unix()))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg-deb: %w\n%s", err, out)
	}
	return nil
}

// debianVersion returns a version for Debian, in which a tilde sorts before the end.
func debianVersion(version string) string { return strings.ReplaceAll(version, "-", "~") }

// control returns the description of the package. size is the number of installed bytes.
func (r *release) control(arch string, size int64) string {
	return fmt.Sprintf(`Package: teamtalk
Version: %s
Architecture: %s
Maintainer: %s
Installed-Size: %d
Recommends: ca-certificates
Section: net
Priority: optional
Description: server side of the TeamTalk messenger
 All servers of an enterprise messenger in one binary: on an embedded store
 with one command, or as processes on many machines with MySQL and Redis.
 .
 The package starts nothing. Edit /etc/teamtalk/teamtalk.toml, then run
 systemctl enable --now teamtalk
`, debianVersion(strings.TrimPrefix(r.version, "v")), arch, r.maintainer, (size+1023)/1024)
}

// packageTree is the folder of a package that is being made. After an error it does nothing.
type packageTree struct {
	root string
	size int64 // bytes so far
	err  error
}

// file adds a file.
func (p *packageTree) file(name string, mode fs.FileMode, content string) {
	if p.err != nil {
		return
	}
	path := filepath.Join(p.root, name)
	for dir := filepath.Dir(path); len(dir) >= len(p.root); dir = filepath.Dir(dir) {
		if p.err = os.MkdirAll(dir, 0o755); p.err == nil {
			p.err = os.Chmod(dir, 0o755) // whatever the umask
		}
		if p.err != nil {
			return
		}
	}
	if p.err = os.WriteFile(path, []byte(content), mode); p.err == nil {
		p.err = os.Chmod(path, mode)
	}
	if !strings.HasPrefix(name, "DEBIAN/") {
		p.size += int64(len(content))
	}
}

// copied adds a file with the content of another.
func (p *packageTree) copied(name string, mode fs.FileMode, from string) {
	content, err := os.ReadFile(from)
	if err != nil && p.err == nil {
		p.err = err
	}
	p.file(name, mode, string(content))
}

// script adds the file of the folder debian with the last part of name.
func (p *packageTree) script(name string, mode fs.FileMode) {
	content, err := scripts.ReadFile("debian/" + filepath.Base(name))
	if err != nil && p.err == nil {
		p.err = err
	}
	p.file(name, mode, string(content))
}
