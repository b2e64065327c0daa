// Package persona is a test client that behaves as the clients in the field do.
//
// A Persona is one row of a table: how one client matches replies, acknowledges deliveries,
// repeats messages, reconnects and syncs. A Client interprets a row. It speaks raw frames, and
// not core/client, which is the client of this project. PERSONAS.md shows the table.
//
// Servers are tested against what these clients do, right or wrong. A row therefore copies the
// faults of its client, and a Client records every frame that its client would misread.
package persona

import (
	"time"

	"teamtalk/proto/pb"
)

// Persona is the behaviour of one client. Durations are those of the real client; Options scale
// them. The zero value of a rule is the most common behaviour.
type Persona struct {
	Name string
	Type pb.ClientType

	WebSocket bool // connects to Options.WebSocket, if that is set

	Heartbeat time.Duration // pause between two heartbeats
	Silence   time.Duration // a connection without a frame for this long is closed; 0: never
	Echo      time.Duration // a heartbeat without its echo for this long closes; 0: never

	Match             Match
	FirstSeq, LastSeq uint16 // the sequence numbers of requests, in a ring
	ListSeq           uint16 // seq of the requests for unread messages; 0: the next in the ring

	Single       Receipt // answers a message from a user
	Group        Receipt // answers a message of a group
	Own          Receipt // answers a copy of what another device of the user sent
	OpenReadOnly bool    // with the conversation open, Single is replaced by the read ack

	Repeated   Repeated      // what a second delivery of a message does
	Resend     time.Duration // an unacked message is sent once more after this; 0: never
	Fail       time.Duration // an unacked message counts as failed after this; 0: never
	MaxFrame   int           // a longer frame is dropped without a word; 0: none
	UserParts  Parts         // which parts of a user list in several frames are heard
	ReadNotify ReadNotify    // reaction to IMMsgDataReadNotify
	Empties    bool          // an addition that is refused leaves a group without members

	Kicked     Kicked        // reaction to IMKickUser
	NoticeTime time.Duration // an end of the connection within this time hides IMKickUser
	Refused    Retry         // after a refused login
	Lost       Retry         // after a connection that ended, or could not be made
	EndSeen    EndSeen       // when a clean end of the stream is noticed
	AskServer  bool          // login_server is asked before every connection, not only once
	AskAfter   time.Duration // login_server is asked once connecting failed for this long; 0: never

	UserTime, DepartTime, SessionTime SyncTime
	Sync                              [][]Ask // after login: the asks of a step go out at once
	StatusAsked                       bool    // the status of all users after each IMUsersInfoRsp

	NeedsHTML   bool   // HTTP answers count only as text/html
	UploadPath  string // appended to msfsPrior, without a slash between
	UploadURL   bool   // an upload is stored if the answer has a url, whatever its error_code
	PicturePath bool   // shows msfsPrior + path of an upload, and not its url
	Avatars     []string
	Files       bool // sends and fetches files
}

// Match says how a client finds the request that a frame answers.
type Match int

const (
	// BySeq takes any frame with the seq of a request as its answer.
	BySeq Match = iota
	// ByAll wants service, command and seq of the request's answer.
	ByAll
	// ByCommand looks at the command only, except that acks are found by seq, lists of unread
	// messages by ListSeq, and that any frame with the seq of the login is read as IMLoginRes.
	ByCommand
)

// Receipt is the form of the IMMsgDataAck that answers a delivery.
type Receipt int

const (
	// NoReceipt sends none.
	NoReceipt Receipt = iota
	// PeerReceipt has session_id = the other user, or the group, and user_id 0.
	PeerReceipt
	// SelfReceipt has session_id = the receiver itself and user_id = the other user.
	SelfReceipt
	// RightReceipt has session_id = the other user, or the group, and user_id = the receiver.
	RightReceipt
)

// Repeated says what a client does with a message that is delivered twice.
type Repeated int

const (
	// ShownTwice shows and counts it again.
	ShownTwice Repeated = iota
	// DroppedByID shows it once.
	DroppedByID
	// DroppedWhileOpen shows it once while the conversation is open.
	DroppedWhileOpen
)

// Parts says which of several IMAllUserRsp that answer one request a client hears.
type Parts int

const (
	// FirstPart hears only the first.
	FirstPart Parts = iota
	// AllParts hears all.
	AllParts
)

// ReadNotify is the reaction to IMMsgDataReadNotify.
type ReadNotify int

const (
	// NotifyTaken answers nothing.
	NotifyTaken ReadNotify = iota
	// NotifyAcked answers each notify with a read ack.
	NotifyAcked
	// NotifyAckedOnce answers a notify that moves the mark forward.
	NotifyAckedOnce
)

// Kicked is the reaction to IMKickUser.
type Kicked int

const (
	// KickEnds closes the connection and shows the login page.
	KickEnds Kicked = iota
	// KickIgnored does nothing; the client reconnects when the server closes.
	KickIgnored
)

// EndSeen says when a client notices a clean end of the stream.
type EndSeen int

const (
	// EndAtOnce notices it when it comes.
	EndAtOnce EndSeen = iota
	// EndAtWrite notices it with the next frame it sends.
	EndAtWrite
	// EndAtCheck notices it only as silence.
	EndAtCheck
)

// SyncTime is the time that a client sends with a "changed since" request.
type SyncTime int

const (
	// SinceZero asks for everything each time.
	SinceZero SyncTime = iota
	// SinceAnswer sends the time of the last answer.
	SinceAnswer
	// SinceOwnClock sends the time of the last sync by the client's own clock.
	SinceOwnClock
	// SinceNewest sends the time of the newest entry known.
	SinceNewest
)

// Ask is a request after login.
type Ask int

// The requests after login.
const (
	AskDepartments Ask = iota
	AskUsers
	AskSessions
	AskGroups
	AskUnread // one IMGetMsgListReq follows for each conversation with unread messages
	AskFiles
)

// Retry is a row of pauses. The zero value never tries again.
type Retry struct {
	First time.Duration // before the first attempt; AtOnce for none
	Step  time.Duration // added with each attempt
	Twice bool          // doubled with each attempt
	Max   time.Duration // longest pause; 0: none
	Not   pb.ResultType // a refusal that ends the attempts; 0: none
}

// AtOnce is the pause of a client that retries at once. The real ones make 15 to 200 attempts a
// second. It is not scaled.
const AtOnce = 15 * time.Millisecond

// Pause returns the pause before attempt n, which counts from 0. It reports whether there is an
// attempt.
func (r Retry) Pause(n int) (pause time.Duration, again bool) {
	if r.First == 0 {
		return 0, false
	}
	pause = r.First + time.Duration(n)*r.Step
	if r.Twice {
		pause = r.First << min(n, 20)
	}
	if r.Max > 0 {
		pause = min(pause, r.Max)
	}
	return pause, true
}

// The syncs of the table.
var (
	allAtOnce = [][]Ask{{AskDepartments, AskUsers, AskSessions, AskGroups, AskUnread}}
	oneByOne  = [][]Ask{{AskDepartments}, {AskUsers}, {AskSessions}, {AskGroups}, {AskUnread}}
)

// Largest frame that Android reads, in bytes.
const androidFrame = 409_600

// Windows is the Windows client.
func Windows() Persona {
	return Persona{
		Name: "windows", Type: pb.ClientType_CLIENT_TYPE_WINDOWS,
		Heartbeat: 5 * time.Second, Silence: 60 * time.Second,
		Match: ByCommand, FirstSeq: 1, LastSeq: 0x7fff, ListSeq: 0x8003,
		Single: PeerReceipt, Own: PeerReceipt, Repeated: DroppedByID,
		Resend: 6 * time.Second, UserParts: AllParts,
		NoticeTime: 200 * time.Microsecond,
		Refused: Retry{First: 3 * time.Second, Step: time.Second, Max: 15 * time.Second,
			Not: pb.ResultType_REFUSE_REASON_VERSION_TOO_OLD},
		Lost:     Retry{First: 3 * time.Second, Step: time.Second, Max: 15 * time.Second},
		UserTime: SinceAnswer,
		Sync: [][]Ask{{AskDepartments}, {AskUsers}, {AskSessions}, {AskUnread, AskFiles},
			{AskGroups}},
		StatusAsked: true,
		UploadPath:  "upload/", PicturePath: true, Avatars: []string{""}, Files: true,
	}
}

// Mac is the Mac client.
func Mac() Persona {
	return Persona{
		Name: "mac", Type: pb.ClientType_CLIENT_TYPE_MAC,
		Heartbeat: 30 * time.Second, Silence: 60 * time.Second,
		Match: ByAll, FirstSeq: 1, LastSeq: 0xffff,
		Refused: Retry{First: time.Second, Twice: true},
		Lost:    Retry{First: time.Second, Twice: true}, EndSeen: EndAtCheck,
		UserTime: SinceAnswer, DepartTime: SinceAnswer, SessionTime: SinceNewest,
		Sync: oneByOne, NeedsHTML: true, Avatars: []string{"_100x100.jpg"}, Files: true,
	}
}

// IOS is the iPhone client.
func IOS() Persona {
	return Persona{
		Name: "ios", Type: pb.ClientType_CLIENT_TYPE_IOS,
		Heartbeat: 30 * time.Second, Silence: 60 * time.Second,
		Match: ByAll, FirstSeq: 1, LastSeq: 0xffff,
		Single: PeerReceipt, Group: RightReceipt, Own: PeerReceipt, Repeated: DroppedWhileOpen,
		Fail: 10 * time.Second, ReadNotify: NotifyAcked, Empties: true,
		Lost: Retry{First: 5 * time.Second, Twice: true}, EndSeen: EndAtWrite, AskServer: true,
		UserTime: SinceAnswer, DepartTime: SinceAnswer, SessionTime: SinceNewest,
		Sync: oneByOne, NeedsHTML: true, Avatars: []string{"_100x100.jpg", "_310x310.jpg"},
	}
}

// Android is the Android client.
func Android() Persona {
	return Persona{
		Name: "android", Type: pb.ClientType_CLIENT_TYPE_ANDROID,
		Heartbeat: 240 * time.Second, Echo: 5 * time.Second,
		Match: BySeq, FirstSeq: 1, LastSeq: 32766,
		Single: SelfReceipt, Group: RightReceipt, Own: SelfReceipt, OpenReadOnly: true,
		Fail: 11 * time.Second, MaxFrame: androidFrame, UserParts: AllParts,
		ReadNotify: NotifyAckedOnce,
		Refused:    Retry{First: AtOnce}, Lost: Retry{First: AtOnce}, AskAfter: 24 * time.Second,
		UserTime: SinceOwnClock, DepartTime: SinceOwnClock, SessionTime: SinceNewest,
		Sync: allAtOnce, Avatars: []string{"_100x100.jpg", "_32x32.jpg", "_200x200.jpg"},
		UploadURL: true,
	}
}

// Web is a web client.
func Web() Persona {
	return Persona{
		Name: "web", Type: pb.ClientType_CLIENT_TYPE_WINDOWS, WebSocket: true,
		Heartbeat: 45 * time.Second, FirstSeq: 2, LastSeq: 0xffff,
		Kicked: KickIgnored, Lost: Retry{First: AtOnce},
		Sync: oneByOne, Avatars: []string{""},
	}
}

// Node is the node client. It ends with its connection.
func Node() Persona {
	p := Web()
	p.Name, p.Lost = "node", Retry{}
	return p
}

// Dart is the Dart client: a robot that answers each message, a repeated one twice.
func Dart() Persona {
	p := Web()
	p.Name, p.Heartbeat, p.Avatars, p.WebSocket = "dart", 30*time.Second, nil, false
	return p
}

// All returns every persona.
func All() []Persona {
	return []Persona{Windows(), Mac(), IOS(), Android(), Web(), Node(), Dart()}
}
