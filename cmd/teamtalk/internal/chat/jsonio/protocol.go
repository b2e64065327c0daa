package jsonio

// Event is a line of output. Help says which event has which fields.
type Event struct {
	Event    string    `json:"event"`
	User     string    `json:"user,omitempty"`
	Server   string    `json:"server,omitempty"`
	Peer     string    `json:"peer,omitempty"`
	Group    uint32    `json:"group,omitempty"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty"`
	N        uint64    `json:"n,omitempty"`
	Ref      any       `json:"ref,omitempty"`
	ID       uint32    `json:"id,omitempty"`
	Time     string    `json:"time,omitempty"`
	Text     *string   `json:"text,omitempty"`
	Kind     string    `json:"kind,omitempty"` // of a message that is no text: audio or other
	Missed   bool      `json:"missed,omitempty"`
	Status   string    `json:"status,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`
	Seconds  float64   `json:"seconds,omitempty"`
	Below    uint32    `json:"below,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Error    string    `json:"error,omitempty"`
	Line     int       `json:"line,omitempty"`
	Unacked  *int      `json:"unacked,omitempty"`
	Unread   []Unread  `json:"unread,omitempty"`
	Messages []Event   `json:"messages,omitempty"`
	Contacts []Contact `json:"contacts,omitempty"`
	Bytes    int       `json:"bytes,omitempty"` // of a voice message
	Cmd      string    `json:"cmd,omitempty"`
	On       *bool     `json:"on,omitempty"`
	By       string    `json:"by,omitempty"`
	Added    []string  `json:"added,omitempty"`
	Removed  []string  `json:"removed,omitempty"`
	Members  []string  `json:"members,omitempty"`
	Left     bool      `json:"left,omitempty"`
	Groups   *[]Group  `json:"groups,omitempty"`
	List     *[]Talk   `json:"list,omitempty"`
	Departs  *[]Depart `json:"departs,omitempty"`
	File     *File     `json:"file,omitempty"`
	Files    *[]*File  `json:"files,omitempty"`
}

// Unread is a conversation with unread messages.
type Unread struct {
	Peer   string `json:"peer"`
	Group  uint32 `json:"group,omitempty"`
	Count  uint32 `json:"count"`
	Latest uint32 `json:"latest_id"`
}

// Contact is a user, with presence and unread messages.
type Contact struct {
	Name   string `json:"name"`
	Nick   string `json:"nick"`
	ID     uint32 `json:"id"`
	Status string `json:"status"`
	Unread uint32 `json:"unread"`
	Sign   string `json:"sign,omitempty"`
}

// Command is a line of input. Help says which command takes which fields.
type Command struct {
	To     string `json:"to"`
	Text   string `json:"text"`
	Ref    any    `json:"ref"`
	Cmd    string `json:"cmd"`
	Peer   string `json:"peer"`
	N      int    `json:"n"`
	Before uint32 `json:"before"`
	ID     uint32 `json:"id"`

	Group   uint32   `json:"group"`
	Name    string   `json:"name"`
	Users   []string `json:"users"`
	File    string   `json:"file"`
	Seconds uint32   `json:"seconds"`
	On      *bool    `json:"on"`
	Off     bool     `json:"off"`
	Offline bool     `json:"offline"`
}

// Group is a group.
type Group struct {
	Peer    string   `json:"peer"`
	Group   uint32   `json:"group"`
	Name    string   `json:"name"`
	Type    string   `json:"type"` // normal or temporary
	Creator string   `json:"creator"`
	Members []string `json:"members"`
	Muted   bool     `json:"muted"`
	Unread  uint32   `json:"unread"`
}

// Talk is a conversation in the list of conversations.
type Talk struct {
	Peer   string `json:"peer"`
	Group  uint32 `json:"group,omitempty"`
	Unread uint32 `json:"unread"`
	Latest uint32 `json:"updated,omitempty"` // unix seconds
	Online bool   `json:"online"`
	Muted  bool   `json:"muted,omitempty"`
}

// Depart is a department with its users. The one without id holds the users that are in
// none.
type Depart struct {
	ID     uint32    `json:"id"`
	Name   string    `json:"name"`
	Parent uint32    `json:"parent,omitempty"`
	Depth  int       `json:"depth"`
	Users  []Contact `json:"users"`
}

// File is a file that is offered or transferred.
type File struct {
	N      int    `json:"n"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	From   string `json:"from"`
	To     string `json:"to"`
	Online bool   `json:"online"`
	State  string `json:"state"`
	Moved  int64  `json:"moved"`
	Path   string `json:"path,omitempty"`
	Task   string `json:"task"`
	Error  string `json:"error,omitempty"`
}
