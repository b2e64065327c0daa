package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

const missedKey = "key-of-the-test-app"

// callAPI makes a call and returns the answer.
func callAPI(t *testing.T, s *system, name, fields string) map[string]any {
	t.Helper()
	body := fmt.Sprintf(`{"app_key":%q,%s}`, missedKey, fields)
	rsp, err := http.Post("http://"+s.api.addr+"/query/"+name, "application/json",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(rsp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

// awaitStatus waits until a user is online (1) or offline (2) for the API. Calls fail until
// its link to the route server is open.
func awaitStatus(t *testing.T, s *system, user, status int) {
	t.Helper()
	want := fmt.Sprintf("[map[status:%d user_id:%d]]", status, user)
	for {
		got := callAPI(t, s, "GetUserStatus", fmt.Sprintf(`"user_id_list":[%d]`, user))
		if fmt.Sprint(got["user_stat_list"]) == want {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the status does not change")
		}
		time.Sleep(time.Millisecond) // no event reports it
	}
}

// msgServer connects to a route server as a message server does that has a PC and a phone of
// a user, and had no link for a time.
func msgServer(t *testing.T, route string, user uint32, missed time.Duration) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", route)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	role := pb.IMRoleSet_builder{Master: proto.Uint32(1),
		Features: proto.Uint32(uint32(pb.ServerFeature_SERVER_FEATURE_RECEIPTS |
			pb.ServerFeature_SERVER_FEATURE_REPEATS | pb.ServerFeature_SERVER_FEATURE_RESENT))}
	if missed > 0 {
		role.Missed = proto.Uint32(uint32(missed.Milliseconds()))
	}
	online := &pb.IMOnlineUserInfo{}
	for _, class := range []pb.ClientType{pb.ClientType_CLIENT_TYPE_WINDOWS,
		pb.ClientType_CLIENT_TYPE_IOS} {
		online.SetUserStatList(append(online.GetUserStatList(), pb.ServerUserStat_builder{
			UserId: &user, ClientType: class.Enum(),
			Status: pb.UserStatType_USER_STATUS_ONLINE.Enum()}.Build()))
	}
	frames, err := pdu.Append(nil, 0, role.Build())
	if err == nil {
		frames, err = pdu.Append(frames, 0, online)
	}
	if err == nil {
		_, err = nc.Write(frames)
	}
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// nextKick reads frames up to the next kick.
func nextKick(t *testing.T, r io.Reader) *pb.IMServerKickUser {
	t.Helper()
	for {
		head := make([]byte, pdu.HeaderLen)
		if _, err := io.ReadFull(r, head); err != nil {
			t.Fatalf("no kick: %v", err)
		}
		h := pdu.ParseHeader(head)
		body := make([]byte, int(h.Length)-pdu.HeaderLen)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatalf("no kick: %v", err)
		}
		m := &pb.IMServerKickUser{}
		if h.Command != m.Command() {
			continue
		}
		if err := m.ParseBody(body); err != nil {
			t.Fatal(err)
		}
		return m
	}
}

// TestKickUserMissed: KickUser also closes the connections to a message server that had no
// link to the route server at that moment, when it has one again.
func TestKickUserMissed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "apps.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "[[app]]\nname = \"test\"\nkey = %q\n",
		missedKey), 0o600); err != nil {
		t.Fatal(err)
	}
	_, at := startRoles(t, "route")
	api, _ := startRoles(t, "http", map[string]string{"http.apps_file": file,
		"http.route": at["route"], "http.dbproxy": at["route"]})
	first := msgServer(t, at["route"], 7, 0)
	awaitStatus(t, api, 7, 1)
	_ = first.Close()
	awaitStatus(t, api, 7, 2)
	if got := callAPI(t, api, "KickUser", `"user_id":7`); got["error_code"] != 0.0 {
		t.Fatalf("KickUser: %v", got)
	}
	again := msgServer(t, at["route"], 7, time.Minute)
	if err := again.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(again)
	for seen := map[bool]bool{}; len(seen) < 2; { // by PC and phone; each kick is sent again
		m := nextKick(t, r)
		if m.GetUserId() != 7 {
			t.Fatalf("kick %v, want one of user 7", m)
		}
		seen[m.GetClientType().IsMobile()] = true
	}
}
