package config

import (
	"maps"
	"reflect"
	"slices"
)

// valuesReload are the settings that a running server takes over when it reads them again, and
// filesReload those whose files it reads again, under the same name. All others take effect at a
// restart.
var (
	valuesReload = []string{
		"log.level", "msg.max_connections", "msg.rate", "msg.rate_burst",
		"login.http_max_connections", "http.max_connections", "file.max_connections",
		"msfs.max_connections", "web.max_connections", "strangers.per_address",
		"strangers.rate", "strangers.burst",
		"strangers.reserved", "strangers.memory", "msfs.upload_rate", "msfs.upload_burst",
		"msfs.quota", "msfs.min_free", "file.quota", "file.min_free", "dbproxy.group_creations",
		"dbproxy.group_adds", "dbproxy.group_gains", "dbproxy.group_memberships",
		"dbproxy.group_left",
	}
	filesReload = []string{
		"http.apps_file", "audit.file", "tls.certificate", "tls.key", "link_tls.ca",
		"link_tls.certificate", "link_tls.key",
	}
)

// What SIGHUP does with a setting, see Reloads.
const (
	ValueReloads = "reloads"
	FileReloads  = "the file reloads"
)

// Reloads returns ValueReloads when a running server takes over the value at SIGHUP, FileReloads
// when it reads the file again whose name is the value, and "" when the setting takes effect at a
// restart only.
func (s Setting) Reloads() string {
	switch {
	case slices.Contains(valuesReload, s.Key):
		return ValueReloads
	case slices.Contains(filesReload, s.Key):
		return FileReloads
	}
	return ""
}

// Reload returns a copy of c, the settings of a running server, with those values of next that a
// running server takes over. changed are the keys of these settings. restart are those of the
// settings whose values differ and take effect at a restart only: all others, and those in kept,
// which are keys. It changes neither c nor next.
func (c *Config) Reload(next *Config, kept ...string) (merged *Config, changed, restart []string) {
	copied := *c
	copied.origin = maps.Clone(c.origin)
	for _, s := range Settings() {
		value := s.field(next)
		if reflect.DeepEqual(s.field(c).Interface(), value.Interface()) {
			continue
		}
		if s.Reloads() != ValueReloads || slices.Contains(kept, s.Key) {
			restart = append(restart, s.Key)
			continue
		}
		s.field(&copied).Set(value)
		copied.origin[s.Key] = next.Origin(s.Key)
		changed = append(changed, s.Key)
	}
	return &copied, changed, restart
}
