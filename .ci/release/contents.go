package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// component is a part of a binary in CycloneDX.
type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Sum     []sum  `json:"properties,omitempty"`
}

// sum is the checksum of a module as go.sum has it, which is none of the kinds of CycloneDX.
type sum struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// list writes the libraries of the binary in the form of CycloneDX 1.5, from what the linker has
// written into it.
func (r *release) list(arch, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	pkg := func(kind, name, version, sum string) component {
		purl := fmt.Sprintf("pkg:golang/%s@%s", name, version)
		c := component{Type: kind, Ref: purl, Name: name, Version: version, PURL: purl}
		c.Sum = sums(sum)
		return c
	}
	main := pkg("application", info.Main.Path, r.version, "")
	parts := []component{pkg("library", "std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, pkg("library", m.Path, m.Version, m.Sum))
	}
	refs := []string{}
	for _, p := range parts {
		refs = append(refs, p.Ref)
	}
	text, err := json.MarshalIndent(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata":     map[string]any{"timestamp": r.date.Format(time.RFC3339), "component": main},
		"components":   parts,
		"dependencies": []any{map[string]any{"ref": main.Ref, "dependsOn": refs}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, r.name(arch, ".cdx.json")), append(text, '\n'), 0o644)
}

func sums(text string) []sum {
	if text == "" {
		return nil
	}
	return []sum{{"go:sum", text}}
}

// collectLicences returns the licences of the libraries in the binaries, which they ask to be told.
func (r *release) collectLicences() ([]byte, error) {
	list, err := output(r.source, "go", "list", "-deps", "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}",
		"./cmd/teamtalk")
	if err != nil {
		return nil, err
	}
	root, err := output(r.source, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	modules := slices.Compact(slices.Sorted(strings.SplitSeq(list, "\n")))
	var b bytes.Buffer
	for _, m := range append([]string{"Go . " + root}, modules...) {
		f := strings.SplitN(m, " ", 3)
		if len(f) < 3 {
			continue
		}
		files, err := licenceFiles(f[2])
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s has no file with its licence", f[0])
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "==== %s: %s\n\n%s\n\n", f[0], filepath.Base(file),
				bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))))
		}
	}
	return b.Bytes(), nil
}

// licenceFiles returns the files in a folder that hold a licence, or names of authors.
func licenceFiles(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		upper := strings.ToUpper(e.Name())
		for _, prefix := range []string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"} {
			if !e.IsDir() && strings.HasPrefix(upper, prefix) {
				files = append(files, filepath.Join(dir, e.Name()))
				break
			}
		}
	}
	return files, nil
}
