package adminapi

import (
	"context"
	"time"
)

// None is the request of a call without parameters, and the answer of one without a result.
type None struct{}

// Directory reads and changes users, departments, groups and messages in a store. Errors have
// the kinds of package im. An error with a method Problems() []string has one line for each
// problem of a file.
type Directory interface {
	ListUsers(context.Context, ListUsers) (UserPage, error)
	AddUser(context.Context, AddUser) (Added, error)
	ImportUsers(context.Context, ImportUsers) (Imported, error)
	GetUser(context.Context, UserName) (UserDetail, error)
	ChangeUser(context.Context, ChangeUser) (User, error)
	DisableUser(context.Context, UserName) (User, error)
	EnableUser(context.Context, UserName) (User, error)
	DeleteUser(context.Context, UserName) (Deleted, error)
	UnlockUser(context.Context, UserName) (None, error)
	UnlockNetwork(context.Context, UnlockNetwork) (UnlockedNetwork, error)
	SetPassword(context.Context, SetPassword) (Password, error)

	ListDepartments(context.Context, None) (Departments, error)
	AddDepartment(context.Context, AddDepartment) (Department, error)
	ChangeDepartment(context.Context, ChangeDepartment) (Department, error)
	DeleteDepartment(context.Context, DepartmentID) (None, error)

	ListGroups(context.Context, ListGroups) (GroupPage, error)
	AddGroup(context.Context, AddGroup) (Group, error)
	GetGroup(context.Context, GroupID) (Group, error)
	RenameGroup(context.Context, RenameGroup) (Group, error)
	ChangeMembers(context.Context, ChangeMembers) (MembersChanged, error)
	DissolveGroup(context.Context, GroupID) (Dissolved, error)

	GetMessages(context.Context, GetMessages) (Messages, error)
}

// Cluster asks and orders the servers of all processes.
type Cluster interface {
	Online(context.Context, Online) (OnlineUsers, error)
	ListOnline(context.Context, ListOnline) (OnlinePage, error)
	// Kick ends the connections of a user.
	Kick(context.Context, UserName) (None, error)
	Nodes(context.Context, None) (Nodes, error)
	Drain(context.Context, Drain) (None, error)
}

// Process has the state of this process.
type Process interface {
	Settings(context.Context, None) (Settings, error)
	LogLevel(context.Context, None) (LogLevel, error)
	SetLogLevel(context.Context, LogLevel) (LogLevel, error)
	Metrics(context.Context, Metrics) (MetricList, error)
	Transfers(context.Context, None) (Transfers, error)
	Live(context.Context, Live) (LiveData, error)
	Audit(context.Context, None) (AuditEvents, error)
}

// User is a user, without credentials.
type User struct {
	ID         uint32 `json:"id"`
	Name       string `json:"name" doc:"login name"`
	Nick       string `json:"nick"`
	Domain     string `json:"domain" doc:"name in pinyin, for search"`
	Gender     string `json:"gender" doc:"m, f or empty"`
	Phone      string `json:"phone"`
	Email      string `json:"email"`
	Avatar     string `json:"avatar" doc:"URL of a picture"`
	Department uint32 `json:"department" doc:"id; 0: none"`
	Sign       string `json:"sign" doc:"text beside the name"`
	Status     string `json:"status" doc:"ok, disabled, trial, regular or intern"`
	Updated    uint32 `json:"updated" doc:"unix seconds of the last change"`
}

// ListUsers asks for a page of users.
type ListUsers struct {
	Search string `query:"search" json:"-" doc:"a part of name, nick, domain, phone or email"`
	Status string `query:"status" json:"-" doc:"only users with this status"`
	// Department is an id; 0: all users.
	Department uint32 `query:"department" json:"-" doc:"only users of the department with this id"`
	After      uint32 `query:"after" json:"-" doc:"only users with larger ids: next of a page"`
	Limit      int    `query:"limit" json:"-" doc:"users of a page, 1 to 1000; default 100"`
	// IDs asks for some users, whatever the other fields are.
	IDs []uint32 `query:"ids" json:"-" doc:"only these users, up to 1000, separated by commas"`
}

// UserPage is a page of users.
type UserPage struct {
	Users []User `json:"users" doc:"in order of id; a page of a search may be short"`
	Next  uint32 `json:"next" doc:"after of the next page; 0: this is the last page"`
}

// AddUser adds a user.
type AddUser struct {
	Name       string `json:"name"`
	Password   string `json:"password" doc:"generated when it is empty"`
	Nick       string `json:"nick" doc:"default: the name"`
	Domain     string `json:"domain" doc:"default: the name"`
	Gender     string `json:"gender"`
	Phone      string `json:"phone"`
	Email      string `json:"email"`
	Avatar     string `json:"avatar"`
	Department string `json:"department" doc:"id, path or name"`
	Reserved   bool   `json:"reserved" doc:"allow a name or nick that others take for official"`
}

func (q *AddUser) subjects() string { return " name=" + q.Name }

// Added is a new user.
type Added struct {
	ID       uint32 `json:"id"`
	Password string `json:"password,omitempty" doc:"if it was generated"`
}

// ImportUsers adds the users of a CSV file, all or none.
type ImportUsers struct {
	DryRun       bool   `query:"dry_run" json:"-" doc:"check everything, add nothing"`
	SkipExisting bool   `query:"skip_existing" json:"-" doc:"skip users whose names are taken"`
	Reserved     bool   `query:"reserved" json:"-" doc:"allow names that others take for official"`
	File         []byte `body:"text/csv" json:"-" doc:"the file, at most 2000 users"`
}

// Imported is the outcome of ImportUsers.
type Imported struct {
	Added     int           `json:"added"`
	Skipped   int           `json:"skipped"`
	Passwords []NewPassword `json:"passwords" doc:"the generated ones"`
}

// NewPassword is the generated password of a user.
type NewPassword struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// UserName names a user.
type UserName struct {
	User string `path:"user" json:"-" doc:"name, else id; id:7 means the id 7 alone"`
}

// UserDetail is a user with the state of its logins.
type UserDetail struct {
	User
	LockedUntil *time.Time `json:"locked_until" doc:"the name is locked for new networks"`
	Networks    []Network  `json:"networks" doc:"from which the user logged in, or failed to"`
	Groups      []uint32   `json:"groups" doc:"ids of the groups that the user is in"`
}

// Network is a network that logins of a user came from.
type Network struct {
	Network     string     `json:"network" doc:"empty: not known"`
	Failed      int        `json:"failed" doc:"wrong passwords"`
	LockedUntil *time.Time `json:"locked_until"`
	Login       *time.Time `json:"login" doc:"day of the last good login"`
}

// ChangeUser changes the given fields of a user, all or none.
type ChangeUser struct {
	User       string  `path:"user" json:"-" doc:"name, else id; id:7 means the id 7 alone"`
	Nick       *string `json:"nick"`
	Domain     *string `json:"domain"`
	Gender     *string `json:"gender" doc:"m, f or empty"`
	Phone      *string `json:"phone"`
	Email      *string `json:"email"`
	Avatar     *string `json:"avatar"`
	Sign       *string `json:"sign"`
	Department *string `json:"department" doc:"id, path or name; / for none"`
	Reserved   bool    `json:"reserved" doc:"allow a nick that others take for official"`
}

// subjects returns the names of the fields, without their values.
func (q *ChangeUser) subjects() (text string) {
	for _, f := range []struct {
		name  string
		value *string
	}{
		{"nick", q.Nick}, {"domain", q.Domain}, {"gender", q.Gender}, {"phone", q.Phone},
		{"email", q.Email}, {"avatar", q.Avatar}, {"sign", q.Sign}, {"department", q.Department},
	} {
		if f.value != nil {
			text += " " + f.name
		}
	}
	return text
}

// Deleted is the outcome of deleting a user.
type Deleted struct {
	NewName string   `json:"new_name" doc:"the name of the row that remains"`
	Left    []uint32 `json:"left" doc:"groups that the user was in"`
	Owned   []uint32 `json:"owned" doc:"groups that no client can change now"`
}

// UnlockNetwork names a network by an address.
type UnlockNetwork struct {
	Address string `json:"address" doc:"an address of the network"`
}

func (q *UnlockNetwork) subjects() string { return " address=" + q.Address }

// UnlockedNetwork is the network of an address.
type UnlockedNetwork struct {
	Network string `json:"network"`
}

// SetPassword gives a user a new password.
type SetPassword struct {
	User     string `path:"user" json:"-" doc:"name, else id; id:7 means the id 7 alone"`
	Password string `json:"password" doc:"generated when it is empty"`
}

// Password is the outcome of SetPassword.
type Password struct {
	Password string `json:"password,omitempty" doc:"if it was generated"`
}

// Departments is all departments, from the top down.
type Departments struct {
	Departments []Department `json:"departments"`
}

// Department is a department.
type Department struct {
	ID       uint32 `json:"id"`
	Name     string `json:"name"`
	Path     string `json:"path" doc:"names from the top down, separated by slashes"`
	Parent   uint32 `json:"parent" doc:"id; 0: the top"`
	Priority uint32 `json:"priority" doc:"lower ones are shown first"`
	Users    int    `json:"users" doc:"without disabled ones, and those of departments inside"`
}

// AddDepartment adds a department.
type AddDepartment struct {
	Name     string `json:"name"`
	Parent   uint32 `json:"parent" doc:"id; 0: the top"`
	Priority uint32 `json:"priority"`
}

func (q *AddDepartment) subjects() string { return " name=" + q.Name }

// DepartmentID names a department.
type DepartmentID struct {
	ID uint32 `path:"department" json:"-"`
}

// ChangeDepartment renames or moves a department.
type ChangeDepartment struct {
	ID       uint32  `path:"department" json:"-"`
	Name     *string `json:"name"`
	Parent   *uint32 `json:"parent" doc:"id; 0: the top"`
	Priority *uint32 `json:"priority"`
}

// ListGroups asks for a page of groups.
type ListGroups struct {
	Search string `query:"search" json:"-" doc:"a part of the name"`
	After  uint32 `query:"after" json:"-" doc:"only groups with larger ids: next of a page"`
	Limit  int    `query:"limit" json:"-" doc:"groups of a page, 1 to 1000; default 100"`
}

// GroupPage is a page of groups, without their members.
type GroupPage struct {
	Groups []Group `json:"groups" doc:"in order of id; a page of a search may be short"`
	Next   uint32  `json:"next" doc:"after of the next page; 0: this is the last page"`
}

// Group is a group.
type Group struct {
	ID       uint32   `json:"id"`
	Name     string   `json:"name"`
	Avatar   string   `json:"avatar"`
	Type     string   `json:"type" doc:"normal or temporary"`
	Creator  uint32   `json:"creator" doc:"the user that may change the group in a client; 0: none"`
	Version  uint32   `json:"version" doc:"grows with each change"`
	Created  uint32   `json:"created" doc:"unix seconds"`
	Updated  uint32   `json:"updated" doc:"unix seconds"`
	LastChat uint32   `json:"last_chat" doc:"unix seconds of the last message; 0: none"`
	Count    int      `json:"count" doc:"number of members"`
	Members  []uint32 `json:"members,omitempty" doc:"ids; not in a list of groups"`
}

// AddGroup creates a group.
type AddGroup struct {
	Name    string   `json:"name"`
	Type    string   `json:"type" doc:"normal, the default, or temporary"`
	Avatar  string   `json:"avatar"`
	Creator string   `json:"creator" doc:"name or id; becomes a member"`
	Members []string `json:"members" doc:"names or ids"`
}

func (q *AddGroup) subjects() string { return " name=" + q.Name }

// GroupID names a group.
type GroupID struct {
	ID uint32 `path:"group" json:"-"`
}

// RenameGroup gives a group another name.
type RenameGroup struct {
	ID   uint32 `path:"group" json:"-"`
	Name string `json:"name"`
}

// ChangeMembers adds users to a group, and removes others.
type ChangeMembers struct {
	ID     uint32   `path:"group" json:"-"`
	Add    []string `json:"add" doc:"names or ids"`
	Remove []string `json:"remove" doc:"names or ids"`
}

func (q *ChangeMembers) subjects() string { return some(" add", q.Add) + some(" remove", q.Remove) }

// MembersChanged is the outcome of ChangeMembers.
type MembersChanged struct {
	Added   []uint32 `json:"added"`
	Removed []uint32 `json:"removed"`
	Version uint32   `json:"version"`
	Count   int      `json:"count" doc:"number of members now"`
	Told    bool     `json:"told" doc:"online users were told; if not, they see it later"`
}

// Dissolved is the outcome of dissolving a group.
type Dissolved struct {
	Removed []uint32 `json:"removed" doc:"the users that were members"`
	Told    bool     `json:"told" doc:"online users were told; if not, they see it later"`
}

// GetMessages asks for messages by their ids, for support. It works with the setting
// admin_api.messages, and the audit log has each call.
type GetMessages struct {
	User  uint32   `query:"user" json:"-" doc:"id of a user of the conversation; required"`
	Peer  uint32   `query:"peer" json:"-" doc:"id of the other user; or group"`
	Group uint32   `query:"group" json:"-" doc:"id of a group that the user is in; or peer"`
	IDs   []uint32 `query:"ids" json:"-" doc:"ids of messages, 1 to 100, separated by commas"`
}

// Messages are messages in order of id.
type Messages struct {
	Messages []Message `json:"messages"`
}

// Message is a message.
type Message struct {
	ID      uint32 `json:"id"`
	From    uint32 `json:"from"`
	To      uint32 `json:"to" doc:"user or group"`
	Created uint32 `json:"created" doc:"unix seconds"`
	Type    string `json:"type" doc:"text or audio"`
	Text    string `json:"text"`
	Sound   string `json:"sound,omitempty" doc:"path of an audio message"`
}
