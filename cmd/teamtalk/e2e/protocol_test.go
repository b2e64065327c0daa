//go:build linux

package e2e

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// dumps returns the frames that PROTOCOL.md shows, by their command.
func dumps(t *testing.T, page string) map[pb.Command][]byte {
	frames := map[pb.Command][]byte{}
	for _, block := range regexp.MustCompile("(?m)(^[0-9a-f]{4}(  ?[0-9a-f]{2})+\n)+").
		FindAllString(page, -1) {
		var text strings.Builder
		for line := range strings.Lines(block) {
			text.WriteString(strings.ReplaceAll(strings.TrimSpace(line[4:]), " ", ""))
		}
		b, err := hex.DecodeString(text.String())
		if err != nil || len(b) < pdu.HeaderLen {
			t.Fatalf("no frame: %q, %v", block, err)
		}
		frames[pdu.ParseHeader(b).Command] = b
	}
	return frames
}

// TestProtocolPage checks the frames and the texts in cipher that PROTOCOL.md shows.
func TestProtocolPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	page, u32 := string(text), proto.Uint32
	want := map[pb.Command][]byte{}
	for seq, m := range []pb.Message{
		pb.IMHeartBeat_builder{}.Build(),
		pb.IMLoginReq_builder{UserName: proto.String("alice"),
			Password:      proto.String(fmt.Sprintf("%x", md5.Sum([]byte("demo")))),
			OnlineStatus:  pb.UserStatType_USER_STATUS_ONLINE.Enum(),
			ClientType:    pb.ClientType_CLIENT_TYPE_IOS.Enum(),
			ClientVersion: proto.String("example/1")}.Build(),
		&pb.MsgData{FromUserID: 1, ToSessionID: 2, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: cipher.Encrypt("hi")},
		pb.IMMsgDataAck_builder{UserId: u32(1), SessionId: u32(2), MsgId: u32(7),
			SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build(),
	} {
		b, err := pdu.Append(nil, uint16(min(seq, 2)), m)
		if err != nil {
			t.Fatal(err)
		}
		want[pdu.ParseHeader(b).Command] = b
	}
	equal(t, "frames on the page", dumps(t, page), want)

	vectors := regexp.MustCompile("(?m)^\\| (\\(empty\\)|`[^`]+`) \\| `([A-Za-z0-9+/=]+)` \\|$").
		FindAllStringSubmatch(page, -1)
	if len(vectors) != 4 {
		t.Errorf("%d texts in cipher on the page, want 4", len(vectors))
	}
	for _, v := range vectors {
		plain := strings.Trim(strings.TrimPrefix(v[1], "(empty)"), "`")
		equal(t, fmt.Sprintf("body of %q", plain), v[2], string(cipher.Encrypt(plain)))
	}
}

// TestExampleClient runs the client that PROTOCOL.md explains, which another user answers.
func TestExampleClient(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 2})
	other := newTalker(t, "u00002", where{addr: sys.msgAddr[1]})
	cmd := exec.CommandContext(bounded(t), "python3", "../example/client/client.py",
		sys.url()+"/msg_server", "u00001", "pw", fmt.Sprint(other.UserID()), "hi, 你好")
	said := &strings.Builder{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	expect := func(want string) {
		t.Helper()
		line, err := lines.ReadString('\n')
		if line != want+"\n" {
			rest, _ := io.ReadAll(lines) // for the message alone
			t.Fatalf("the client wrote %q, want %q: %v\n%s%s", line, want, err, rest, said)
		}
	}
	expect("logged in as user 1")
	expect("stored as message 1")
	until(t, "the text at the other user", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return len(other.got) == 1
	})
	got, err := other.Text(other.got[0])
	if got != "hi, 你好" || err != nil {
		t.Errorf("the other user got %q, %v", got, err)
	}
	for _, text := range []string{"0123456789ab", "再见", "bye"} {
		if _, err = other.Send(client.Peer{ID: 1}, text); err != nil {
			t.Fatal(err)
		}
		expect("from user 2: " + text)
	}
	if err = cmd.Wait(); err != nil {
		t.Errorf("the client: %v\n%s", err, said)
	}
}
