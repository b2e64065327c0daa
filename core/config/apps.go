package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"

	"github.com/pelletier/go-toml/v2"
)

// Apps is the content of the file that lists the systems that may call the HTTP API. It
// is apart from the settings because it is a list and holds secrets.
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

// LoadApps reads a file of systems. The error names the file, and the entry with a bad
// network.
func LoadApps(file string) (*Apps, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read apps: %w", err)
	}
	return parseApps(file, data)
}

func parseApps(file string, data []byte) (*Apps, error) {
	a := &Apps{}
	data, err := PlainText(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
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
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("network %q is no CIDR such as 10.0.0.0/8", n)
		}
		nets = append(nets, p)
	}
	return nets, nil
}
