package im

import "context"

// OldThread is a conversation between two users, or a group, with messages that may be deleted:
// those with ids of at most Upto.
type OldThread struct {
	Group bool
	ID    uint32    // of the relation of the two users, or of the group
	Users [2]uint32 // the users of the conversation; zero for a group
	Upto  uint32
}

// Keep sets Upto by the ids of three messages that are shown: the first one that is young enough to
// stay, 0 when none is, the newest and the oldest one. The newest one stays in any case. It reports
// whether there is anything to delete.
func (t *OldThread) Keep(young, newest, oldest uint32) bool {
	stays := young
	if stays == 0 {
		stays = newest
	}
	if oldest >= stays {
		return false
	}
	t.Upto = stays - 1 // stays is above oldest
	return true
}

// OldCount counts messages of one kind.
type OldCount struct {
	Messages int
	Bytes    int64 // of texts as they are stored, and of the files of sounds
}

// Add adds another count.
func (c *OldCount) Add(o OldCount) {
	c.Messages += o.Messages
	c.Bytes += o.Bytes
}

// OldPart is some of the messages of an OldThread, which follow each other.
type OldPart struct {
	Last  uint32 // id of the last message of the part; 0: no message follows
	Texts OldCount
	// Sounds are the audio messages. Their files have the places Paths, as in Audio.Path.
	Sounds  OldCount
	Paths   []string
	SoundID []uint32 // rows of IMAudio
}

// Pruner deletes old messages. Both stores implement it, beside servers that use them. After a
// kill at any point, the same calls do the rest.
type Pruner interface {
	// OldThreads looks at up to 200 conversations, or groups, with ids above after, in order of
	// id. It returns those of them that may have old messages: those before the first message
	// that was created at before (unix seconds) or later, without the last message. So
	// each conversation keeps its last message, and no id is given twice. last is the id that
	// the next call continues after, 0 when there are no more. Kind Invalid when a server of
	// the first implementation may still use the tables.
	OldThreads(ctx context.Context, group bool, after, before uint32) (list []OldThread,
		last uint32, err error)
	// OldPart returns the next messages of t with ids above after, at most limit.
	OldPart(ctx context.Context, t OldThread, after uint32, limit int) (OldPart, error)
	// SkipOld lowers the unread counts in t to the numbers of messages with ids above t.Upto. It
	// must precede DeleteOld. Kind Busy when the counts change all the time.
	SkipOld(ctx context.Context, t OldThread) error
	// DeleteOld deletes the messages of t up to p.Last, and the rows of p.SoundID.
	DeleteOld(ctx context.Context, t OldThread, p OldPart) error
}
