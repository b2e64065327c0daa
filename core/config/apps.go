package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"

	"github.com/pelletier/go-toml/v2"
)

// Apps is the file of systems that may call the HTTP API, beside the settings: a list, and full of secrets.
type Apps struct {
	App []struct {
		Name     string   `toml:"name"`
		Key      Secret   `toml:"key"`
		Calls    []string `toml:"calls"`
		As       []uint32 `toml:"as"`
		Users    []uint32 `toml:"users"`
		Groups   []uint32 `toml:"groups"`
		Networks []string `toml:"networks"`
		Rate     float64  `toml:"rate"`
		Burst    int      `toml:"burst"`

		// Nets are Networks, read.
		Nets []netip.Prefix `toml:"-"`
	} `toml:"app"`
	Register struct {
		Invites []string `toml:"invites"`
		Depart  uint32   `toml:"depart"`
	} `toml:"register"`
}

// LoadApps reads the file.
func LoadApps(file string) (*Apps, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read apps: %w", err)
	}
	return parseApps(file, data)
}

func parseApps(file string, data []byte) (*Apps, error) {
	a := &Apps{}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i := range a.App {
		app := &a.App[i]
		for _, n := range app.Networks {
			p, err := netip.ParsePrefix(n)
			if err != nil {
				return nil, fmt.Errorf("%s: app %q: network %q is no CIDR such as 10.0.0.0/8", file, app.Name, n)
			}
			app.Nets = append(app.Nets, p)
		}
	}
	return a, nil
}
