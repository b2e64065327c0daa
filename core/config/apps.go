package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

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
		return nil, located(file, err)
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

// located returns an error of a decoder with the line of the file that is wrong.
func located(file string, err error) error {
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		row, _ := unknown.Errors[0].Position()
		return fmt.Errorf("%s:%d: no such key: %s", file, row,
			strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &bad):
		row, _ := bad.Position()
		return fmt.Errorf("%s:%d: %w", file, row, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

func parseNetworks(list []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for _, n := range list {
		p, err := parseNetwork(n)
		if err != nil {
			return nil, fmt.Errorf("networks: %w", err)
		}
		nets = append(nets, p)
	}
	return nets, nil
}

// parseNetwork parses a network. One of IPv4 in the form of IPv6 would contain no address, since
// the addresses of clients are compared in the form of IPv4.
func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no network such as 10.0.0.0/8", s)
	case p.Addr().Is4In6() && p.Bits() >= 96:
		v4 := netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
		return p, fmt.Errorf("%q is IPv4 in the form of IPv6: write %s", s, v4)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is no network of IPv6, nor one of IPv4", s)
	}
	return p, nil
}
