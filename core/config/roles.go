package config

import "slices"

// The roles: the servers that a process may run.
const (
	RoleLogin   = "login"
	RoleMsg     = "msg"
	RoleRoute   = "route"
	RoleDBProxy = "dbproxy"
	RoleMSFS    = "msfs"
	RoleFile    = "file"
	RolePush    = "push"
	RoleHTTP    = "http"
	RoleWeb     = "web"
)

// roles are all of them, in the order of the documentation.
var roles = []string{RoleLogin, RoleMsg, RoleRoute, RoleDBProxy, RoleMSFS, RoleFile, RolePush,
	RoleHTTP, RoleWeb}

// joined are the roles that are connected by links.
var joined = []string{RoleLogin, RoleMsg, RoleRoute, RoleDBProxy}

// Roles returns the names of all roles.
func Roles() []string { return slices.Clone(roles) }

// Runs reports whether this process runs the role.
func (c *Config) Runs(role string) bool { return slices.Contains(c.Roles, role) }

// AllInOne reports whether this process runs all roles that are connected by links, so
// that it needs no connections to other servers.
func (c *Config) AllInOne() bool {
	return !slices.ContainsFunc(joined, func(r string) bool { return !c.Runs(r) })
}
