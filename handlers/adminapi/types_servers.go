package adminapi

import "time"

// Online asks which users are online.
type Online struct {
	Users []uint32 `query:"users" json:"-" doc:"ids, 1 to 1000, separated by commas"`
}

// OnlineUsers is the answer to Online.
type OnlineUsers struct {
	Users []OnlineUser `json:"users"`
}

// OnlineUser says where a user is online.
type OnlineUser struct {
	ID      uint32   `json:"id"`
	Online  bool     `json:"online"`
	Devices []Device `json:"devices" doc:"null: this process does not know them"`
}

// ListOnline asks for a page of the users that are online.
type ListOnline struct {
	Search string `query:"search" json:"-" doc:"a part of name, nick, domain, phone or email"`
	After  uint32 `query:"after" json:"-" doc:"only users with larger ids: next of a page"`
	Limit  int    `query:"limit" json:"-" doc:"users of a page, 1 to 1000; default 100"`
}

// OnlinePage is a page of users that are online.
type OnlinePage struct {
	Users []OnlineName `json:"users" doc:"in order of id; a page may be short"`
	Next  uint32       `json:"next" doc:"after of the next page; 0: this is the last page"`
}

// OnlineName is a user that is online, with its names.
type OnlineName struct {
	OnlineUser
	Name string `json:"name"`
	Nick string `json:"nick"`
}

// Device is a client of a user.
type Device struct {
	Node   string `json:"node" doc:"name of the process, or address of the message server"`
	Client string `json:"client" doc:"type of the client, such as ANDROID"`
}

// Nodes is the registered servers.
type Nodes struct {
	Registry bool   `json:"registry" doc:"false: the settings turn the registry off"`
	Nodes    []Node `json:"nodes"`
}

// Node is a role of a process.
type Node struct {
	Role        string   `json:"role"`
	Name        string   `json:"name" doc:"of the process"`
	Draining    bool     `json:"draining"`
	Addr        string   `json:"addr" doc:"for servers"`
	Clients     []string `json:"clients" doc:"addresses for clients"`
	Connections int64    `json:"connections"`
	Users       int64    `json:"users"`
	Capacity    int64    `json:"capacity" doc:"0: no limit of its own"`
	Epoch       uint64   `json:"epoch"`
	Version     string   `json:"version"`
	LeaseAge    int64    `json:"lease_age_ms"`
	LeaseLeft   int64    `json:"lease_left_ms"`
}

// Drain orders the servers of a process to drain, or to serve again.
type Drain struct {
	Node  string   `path:"node" json:"-" doc:"name of the process"`
	Drain bool     `json:"drain" doc:"false: serve again"`
	Roles []string `json:"roles" doc:"empty: all of the process"`
}

func (q *Drain) subjects() string {
	if !q.Drain {
		return " serve" + some(" roles", q.Roles)
	}
	return " drain" + some(" roles", q.Roles)
}

// Settings is the settings of this process.
type Settings struct {
	Settings []Setting `json:"settings"`
}

// Setting is a setting with its value, without secrets.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value" doc:"as in a file of settings"`
	Origin string `json:"origin" doc:"default, or where the value was given"`
	// Reloads says when another value takes effect: at SIGHUP, or at a restart when it is empty.
	// SIGHUP takes over the value, or reads the file again that the value names.
	Reloads string `json:"reloads" doc:"reloads, the file reloads, or empty: at a restart"`
}

// LogLevel is the lowest level that this process logs.
type LogLevel struct {
	Level string `json:"level" doc:"debug, info, warn or error; until the process ends"`
}

func (q *LogLevel) subjects() string { return " level=" + q.Level }

// Metrics asks for metrics of this process.
type Metrics struct {
	Prefix  string `query:"prefix" json:"-" doc:"begin of the names; default teamtalk_"`
	Label   string `query:"label" json:"-" doc:"only those with a label of this name"`
	NonZero bool   `query:"nonzero" json:"-" doc:"only those whose value is not 0"`
}

// MetricList is metrics with their values.
type MetricList struct {
	Metrics []Metric `json:"metrics"`
}

// Metric is a value of a metric.
type Metric struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Type   string            `json:"type" doc:"counter, gauge or histogram"`
	Value  float64           `json:"value" doc:"of a histogram: the number of events"`
	Sum    float64           `json:"sum" doc:"of a histogram: the sum of the events"`
}

// Transfers is the transfers of files that run in this process.
type Transfers struct {
	Transfers []Transfer `json:"transfers"`
}

// Transfer is a transfer of a file.
type Transfer struct {
	ID      string    `json:"id"`
	From    uint32    `json:"from"`
	To      uint32    `json:"to"`
	Name    string    `json:"name"`
	Size    uint32    `json:"size" doc:"bytes"`
	Online  bool      `json:"online" doc:"between two clients that are both online"`
	Created time.Time `json:"created"`
}

// Live asks for the data of the last hour.
type Live struct {
	Step    int `query:"step" json:"-" doc:"seconds of a sample: 10, or 60, the default"`
	Minutes int `query:"minutes" json:"-" doc:"the last minutes, 1 to 60, the default"`
}

// LiveData is what this process did in the last hour, as lists that belong together.
type LiveData struct {
	Step  int         `json:"step" doc:"seconds"`
	Times []time.Time `json:"times" doc:"the end of each sample, oldest first"`
	// Series has a value for each time.
	Series map[string][]*float64 `json:"series" doc:"by name; null: not known at that time"`
}

// AuditEvents is the last events of this process for the audit log, the newest first.
type AuditEvents struct {
	Events []AuditEvent `json:"events"`
}

// AuditEvent is an event. Fields without a value are empty.
type AuditEvent struct {
	Time   string `json:"time" doc:"UTC"`
	Event  string `json:"event" doc:"its kind, such as login or admin_call"`
	By     string `json:"by" doc:"the system or the token that acts; empty: the user"`
	User   uint32 `json:"user"`
	Name   string `json:"name"`
	From   string `json:"from" doc:"address of the client"`
	Client string `json:"client" doc:"its type"`
	What   string `json:"what" doc:"the call, with its subjects"`
	Result string `json:"result" doc:"ok, or a code"`
	Detail string `json:"detail" doc:"more about the result"`
}
