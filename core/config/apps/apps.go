// Package apps reads the file that lists the systems that may call the HTTP API, and says whether
// users may register there.
package apps

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"

	"github.com/pelletier/go-toml/v2"

	"teamtalk/core/config"
	"teamtalk/core/origin"
	"teamtalk/core/tomlfile"
)

// File is the content of the file. It is apart from the settings because it is a list and holds
// secrets.
type File struct {
	App []struct {
		Name     string        `toml:"name"`
		Key      config.Secret `toml:"key"`
		Calls    []string      `toml:"calls"`
		As       []uint32      `toml:"as"`
		Users    []uint32      `toml:"users"`
		Groups   []uint32      `toml:"groups"`
		Networks []string      `toml:"networks"`
		Rate     float64       `toml:"rate"`
		Burst    int           `toml:"burst"`

		// Nets holds the parsed Networks.
		Nets []netip.Prefix `toml:"-"`
	} `toml:"app"`
	Register struct {
		Open     bool     `toml:"open"`
		Invites  []string `toml:"invites"`
		Networks []string `toml:"networks"`
		PerHour  int      `toml:"per_hour"`
		Depart   uint32   `toml:"depart"`

		// Nets holds the parsed Networks.
		Nets []netip.Prefix `toml:"-"`
	} `toml:"register"`
}

// Load reads a file. The error names the file, and the entry with a bad network.
func Load(file string) (*File, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read apps: %w", err)
	}
	return parse(file, data)
}

func parse(file string, data []byte) (*File, error) {
	a := &File{}
	data, err := tomlfile.PlainText(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, tomlfile.Located(file, err)
	}
	for i := range a.App {
		app := &a.App[i]
		if app.Nets, err = parseNetworks(app.Networks); err != nil {
			return nil, fmt.Errorf("%s: app %q: %w", file, app.Name, err)
		}
	}
	if a.Register.Nets, err = parseNetworks(a.Register.Networks); err != nil {
		return nil, fmt.Errorf("%s: register: %w", file, err)
	}
	return a, nil
}

func parseNetworks(list []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for _, n := range list {
		p, err := origin.ParseNetwork(n)
		if err != nil {
			return nil, fmt.Errorf("networks: %w", err)
		}
		nets = append(nets, p)
	}
	return nets, nil
}
