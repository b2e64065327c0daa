package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
)

// TestExamples checks the example files, and that reference.toml lists the present
// settings.
func TestExamples(t *testing.T) {
	golden(t, filepath.Join("..", "example", "reference.toml"), command(t, "", "config").out)
	files, err := filepath.Glob("example/*.toml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %q, %v", files, err)
	}
	for _, name := range []string{"primary", "galera"} {
		file := "example/databases/" + name + ".toml"
		command(t, "", "config", "check", "--config", file, "--roles", "dbproxy", "--no-files",
			"--registry.advertise", "db1").want(t, cli.ExitOK, "ok: ", "")
	}
	for _, file := range files {
		cfg, err := config.Load(config.Sources{File: file})
		if err == nil {
			err = cfg.CheckServe()
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, role := range []string{"login", "msg", "route", "dbproxy", "push"} {
		command(t, "", "config", "check", "--config", "example/cluster.toml", "--roles", role,
			"--registry.advertise", "hub", "--no-files").want(t, cli.ExitOK, "ok: ", "")
	}
}

// TestContainerExamples checks the settings of each container in the manifests for Kubernetes and
// compose.
func TestContainerExamples(t *testing.T) {
	roles := regexp.MustCompile(`args: .*"--roles", "(\w+)"|command: .*"--roles", "(\w+)"`)
	for _, dir := range []string{"kubernetes", "compose"} {
		files, err := filepath.Glob("example/" + dir + "/*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("manifests: %q, %v", files, err)
		}
		seen := map[string]bool{}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range roles.FindAllStringSubmatch(string(text), -1) {
				seen[m[1]+m[2]] = true
			}
		}
		for _, role := range []string{"msg", "dbproxy", "login", "file", "msfs", "web"} {
			if !seen[role] {
				t.Errorf("%s has no container with the role %s", dir, role)
			}
		}
		for role := range seen {
			// Names, addresses and passwords come from the environment of the container.
			command(t, "", "config", "check", "--config", "example/"+dir+"/teamtalk.toml",
				"--roles", role, "--no-files", "--node.name", "a", "--registry.advertise",
				"10.0.0.5", "--mysql.master", "teamtalk@tcp(db:3306)/teamtalk").
				want(t, cli.ExitOK, "ok: ", "")
		}
	}
}
