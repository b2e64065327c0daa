package chat

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// historyPage is the number of messages of one request for history; servers return at
// most 100.
const historyPage = 100

// History returns the newest n messages of a conversation whose ids are at most begin,
// oldest first. With begin 0 it returns the newest n messages.
func (s *Session) History(ctx context.Context, p client.Peer, begin uint32, n int) (
	[]im.Message, error,
) {
	var all []im.Message
	for len(all) < n {
		page, err := client.History(ctx, s.Client, p, begin, min(historyPage, n-len(all)))
		if err != nil {
			return nil, fmt.Errorf("ask for history: %w", err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		lowest := page[len(page)-1].ID
		if lowest <= 1 || begin != 0 && lowest > begin {
			break
		}
		begin = lowest - 1
	}
	slices.SortFunc(all, func(a, b im.Message) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Text returns the text of a message as its sender wrote it, which is unsafe for a
// terminal, and true. For a message that is no text, or that cannot be decrypted, it
// returns a description and false.
func (s *Session) Text(m im.Message) (string, bool) {
	if m.Type == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || m.Type == pb.MsgType_MSG_TYPE_GROUP_AUDIO {
		if seconds, sound, ok := client.Sound(m); ok {
			return fmt.Sprintf("[voice message, %d s, %s]", seconds, FileSize(int64(len(sound)))),
				false
		}
		return "[voice message]", false
	}
	text, err := s.Client.Text(m)
	if err != nil {
		return "[unreadable: encrypted with another key?]", false
	}
	return text, true
}

// LocalTime returns the time of a message in the zone of this machine.
func LocalTime(m im.Message) time.Time { return time.Unix(int64(m.Created), 0) }

// ReadSound reads a file that is to be sent as a voice message.
func ReadSound(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > im.MaxAudio:
		return nil, fmt.Errorf("%s: want a file of 1 to %d bytes", CleanLine(path), im.MaxAudio)
	}
	return os.ReadFile(path)
}
