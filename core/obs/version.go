package obs

import (
	"runtime"
	"runtime/debug"
)

// Version identifies the build of a process.
type Version struct {
	Version  string `json:"version"`  // "v1.2.3", or "dev" for a build without one
	Revision string `json:"revision"` // commit; "" when unknown
	Modified bool   `json:"modified"` // built from a tree with uncommitted changes
	Built    string `json:"built"`    // time of the commit, RFC 3339; "" when unknown
	Go       string `json:"go"`
	Platform string `json:"platform"` // "linux/amd64"
}

// ReadVersion returns the version of the running binary. The arguments are the values that the
// linker set (go build -ldflags "-X main.version=v1.2.3 -X main.revision=… -X main.built=…"). A
// value that is not empty replaces the one that the go command recorded.
func ReadVersion(version, revision, built string) Version {
	info, _ := debug.ReadBuildInfo()
	return versionOf(version, revision, built, info)
}

func versionOf(version, revision, built string, info *debug.BuildInfo) Version {
	v := Version{Version: version, Revision: revision, Built: built, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info != nil {
		if v.Version == "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && v.Revision == "":
				v.Revision = s.Value
			case s.Key == "vcs.time" && v.Built == "":
				v.Built = s.Value
			case s.Key == "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if v.Version == "" {
		v.Version = "dev"
	}
	return v
}

// String returns the version in one line: "teamtalk v1.2.3 (4b7fca10ab12,
// 2026-11-23T11:00:00Z, modified) go1.26 linux/amd64".
func (v Version) String() string {
	s, note := "teamtalk "+v.Version, ""
	if v.Revision != "" {
		note = v.Revision[:min(12, len(v.Revision))]
	}
	if v.Built != "" {
		note += ", " + v.Built
	}
	if v.Modified {
		note += ", modified"
	}
	if note != "" {
		s += " (" + note + ")"
	}
	return s + " " + v.Go + " " + v.Platform
}
