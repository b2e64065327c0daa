package adminapi

import (
	"context"
	"net/http"
	"reflect"

	"teamtalk/handlers/adminapi/tokens"
)

// route is a call of the API.
type route struct {
	method, path string
	name         string // in metrics and as operationId
	what         string // one line for the description
	in, out      reflect.Type
	role         tokens.Role
	limit        int64 // of the body, in bytes
	quiet        bool  // not in the audit log, unless it is refused
	run          func(w http.ResponseWriter, r *http.Request) (in, out any, err error)
}

const (
	maxBody = 64 << 10
	maxFile = 1 << 20 // of users
)

// call describes a call. GET is for every token, other methods for those with the role admin.
func call[Q, R any](method, path, name, what string,
	do func(context.Context, Q) (R, error)) *route {
	rt := &route{method: method, path: path, name: name, what: what, role: tokens.Admin,
		in: reflect.TypeFor[Q](), out: reflect.TypeFor[R](), limit: maxBody}
	if method == http.MethodGet {
		rt.role = tokens.ReadOnly
	}
	rt.run = func(w http.ResponseWriter, r *http.Request) (any, any, error) {
		q := new(Q)
		if err := decode(w, r, q, rt.limit); err != nil {
			return q, nil, err
		}
		a, err := do(r.Context(), *q)
		return q, a, err
	}
	return rt
}

// routes returns all calls, in the order of the description.
func (s *Server) routes() []*route {
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch,
		http.MethodDelete
	d, c := s.opt.Directory, s.opt.Cluster
	file := call(post, "/v1/users/csv", "importUsers",
		"Add the users of a CSV file, all or none", d.ImportUsers)
	file.limit = maxFile
	messages := call(get, "/v1/messages", "getMessages",
		"Get messages by id (setting admin_api.messages)", s.messages)
	messages.role = tokens.Admin
	return append([]*route{
		call(get, "/v1/users", "listUsers", "List and search users", d.ListUsers),
		call(post, "/v1/users", "addUser", "Add a user", d.AddUser),
		file,
		call(get, "/v1/users/{user}", "getUser", "Get a user", d.GetUser),
		call(patch, "/v1/users/{user}", "changeUser", "Change fields of a user", d.ChangeUser),
		call(del, "/v1/users/{user}", "deleteUser", "End a user for good, and free the name",
			d.DeleteUser),
		call(post, "/v1/users/{user}/disable", "disableUser", "Refuse the logins of a user",
			d.DisableUser),
		call(post, "/v1/users/{user}/enable", "enableUser", "Allow the logins of a user",
			d.EnableUser),
		call(post, "/v1/users/{user}/unlock", "unlockUser",
			"Forget the wrong passwords for a name", d.UnlockUser),
		call(post, "/v1/users/{user}/password", "setPassword", "Give a user a new password",
			d.SetPassword),
		call(post, "/v1/users/{user}/kick", "kickUser", "End the connections of a user", c.Kick),
		call(post, "/v1/networks/unlock", "unlockNetwork",
			"Forget the wrong passwords from a network", d.UnlockNetwork),
		call(get, "/v1/online", "online", "Tell which users are online, and where", c.Online),
		call(get, "/v1/online/users", "listOnline", "List and search the users that are online",
			c.ListOnline),
		call(get, "/v1/departments", "listDepartments", "List all departments",
			d.ListDepartments),
		call(post, "/v1/departments", "addDepartment", "Add a department", d.AddDepartment),
		call(patch, "/v1/departments/{department}", "changeDepartment",
			"Rename or move a department", d.ChangeDepartment),
		call(del, "/v1/departments/{department}", "deleteDepartment",
			"Delete an empty department", d.DeleteDepartment),
		call(get, "/v1/groups", "listGroups", "List and search groups", d.ListGroups),
		call(post, "/v1/groups", "addGroup", "Create a group", d.AddGroup),
		call(get, "/v1/groups/{group}", "getGroup", "Get a group and its members", d.GetGroup),
		call(patch, "/v1/groups/{group}", "renameGroup", "Rename a group", d.RenameGroup),
		call(post, "/v1/groups/{group}/members", "changeMembers",
			"Add and remove members of a group", d.ChangeMembers),
		call(del, "/v1/groups/{group}", "dissolveGroup", "Remove all members of a group",
			d.DissolveGroup),
		messages,
	}, s.serverRoutes()...)
}

// serverRoutes returns the calls about servers and about this process.
func (s *Server) serverRoutes() []*route {
	const get, put = http.MethodGet, http.MethodPut
	c, p := s.opt.Cluster, s.opt.Process
	// The log has what people typed as their names, a password among them.
	events := call(get, "/v1/audit", "audit", "Get the last events of the audit log", p.Audit)
	events.role, events.quiet = tokens.Admin, true
	return []*route{
		call(get, "/v1/nodes", "listNodes", "List the registered servers", c.Nodes),
		call(put, "/v1/nodes/{node}/drain", "drain",
			"Order the servers of a process to drain or to serve", c.Drain),
		call(get, "/v1/settings", "settings", "Get the settings of this process", p.Settings),
		call(get, "/v1/log", "logLevel", "Get the log level of this process", p.LogLevel),
		call(put, "/v1/log", "setLogLevel", "Set the log level of this process", p.SetLogLevel),
		call(get, "/v1/metrics", "metrics", "Get metrics of this process", p.Metrics),
		call(get, "/v1/transfers", "transfers", "List running transfers of files of this process",
			p.Transfers),
		call(get, "/v1/live", "live", "Get rates and latencies of the last hour of this process",
			p.Live),
		events,
	}
}
