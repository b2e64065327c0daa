//go:build linux

package e2e

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// soundPaths returns the paths of the sounds between two users in the store, oldest
// first.
func soundPaths(t *testing.T, sys *deployment, a, b uint32) (paths []string) {
	t.Helper()
	if sys.separate {
		return soundPathsMySQL(t, sys.store[3])
	}
	store, err := embedded.Open(t.Context(), embedded.Options{Dir: sys.store[1], Admin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	list, err := store.History(t.Context(), a, b, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		paths = append(paths, m.Audio.Path)
	}
	slices.Reverse(paths)
	return paths
}

// soundPathsMySQL returns the paths of all sounds in a database, oldest first.
func soundPathsMySQL(t *testing.T, dsn string) (paths []string) {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT path FROM IMAudio ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var path string
		if err := rows.Scan(&path); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// soundSystem is a system whose db_proxy the test restarts with other settings.
type soundSystem struct {
	t *testing.T
	*deployment
	data string // folder of db_proxy
}

// TestSounds stores the sounds of messages in three places. db_proxy alone keeps a sound
// in its folder. With a small file server in its process it stores a sound there, under a
// URL that every client can fetch, and nowhere else. Users can still play the sounds from
// the folder, and from an old address of the file server.
func TestSounds(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		s := &soundSystem{t: t, deployment: sys, data: filepath.Join(t.TempDir(), "dbproxy")}
		if !sys.separate {
			s.data = sys.store[1]
		}
		first, second := reserve(t), reserve(t)
		s.restart("")
		one, two := s.send(1)
		s.restart(first)
		s.send(2)
		s.restart(second)
		s.send(3)

		paths := soundPaths(t, sys, one, two)
		if len(paths) != 3 {
			t.Fatalf("paths of the sounds: %q", paths)
		}
		if _, err := os.Stat(filepath.Join(s.data, "audio", paths[0])); err != nil {
			t.Errorf("sound 1: %v", err)
		}
		checkSoundURL(t, 2, paths[1], first, second)
		checkSoundURL(t, 3, paths[2], second, second)
		kept, err := filepath.Glob(filepath.Join(s.data, "audio", "*", "*"))
		if err != nil || len(kept) != 1 {
			t.Errorf("files in the folder of db_proxy: %q, %v; want sound 1 only", kept, err)
		}
		s.checkPlayed(one)
	})
}

// restart restarts db_proxy: with a small file server that listens on files, or without
// for "".
func (s *soundSystem) restart(files string) {
	s.t.Helper()
	s.dbproxy.stop()
	flags := []string{"--data-dir", s.data, "--msfs.min-free", "0B"}
	roles := "login,msg,route,dbproxy"
	if s.separate {
		roles = "dbproxy"
	}
	if files != "" {
		flags, roles = append(flags, "--msfs.listen", files), roles+",msfs"
	}
	s.dbproxy.extra = append(flags, "--roles", roles)
	s.dbproxy.start()
	if s.separate {
		for _, m := range s.msg {
			m.awaitReady()
		}
	}
}

// send sends the nth sound, and returns the ids of its sender and receiver.
func (s *soundSystem) send(n int) (from, to uint32) {
	s.t.Helper()
	w, to := loggedIn(s.t, s.msgAddr[0], "u00002", android)
	w.Close()
	w, from = loggedIn(s.t, s.msgAddr[0], "u00001", android)
	defer w.Close()
	w.send(2, &pb.MsgData{ToSessionID: to, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
		Data: soundBody(n)})
	w.expectSeq(2, &pb.IMMsgDataAck{})
	return from, to
}

// checkPlayed checks that the receiver gets all sounds of a user in the history.
func (s *soundSystem) checkPlayed(from uint32) {
	s.t.Helper()
	w, _ := loggedIn(s.t, s.msgAddr[1], "u00002", android)
	w.send(5, pb.IMGetMsgListReq_builder{
		UserId: new(uint32(0)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
		SessionId: &from, MsgIdBegin: new(uint32(0)), MsgCnt: new(uint32(10)),
	}.Build())
	list := &pb.IMGetMsgListRsp{}
	w.expectSeq(5, list)
	if len(list.GetMsgList()) != 3 {
		s.t.Fatalf("history: %v", list)
	}
	for i, m := range list.GetMsgList() {
		if want := soundBody(3 - i); !bytes.Equal(m.GetMsgData(), want) {
			s.t.Errorf("message %d has a sound of %d bytes, want %d", m.GetMsgId(),
				len(m.GetMsgData()), len(want))
		}
	}
}

// soundBody returns the body of the nth sound: its length in seconds, and 1000 bytes for
// each.
func soundBody(n int) []byte {
	seconds := binary.BigEndian.AppendUint32(nil, uint32(n))
	return append(seconds, bytes.Repeat([]byte{byte(0xf0 + n)}, 1000*n)...)
}

// checkSoundURL checks that the path of the nth sound is a URL of the file server at that
// time, and that the file server at its present address serves the sound.
func checkSoundURL(t *testing.T, n int, path, then, now string) {
	t.Helper()
	base, name, _ := strings.Cut(path, "/g0/")
	if base != "http://"+then {
		t.Errorf("sound %d is at %s, want it at %s", n, path, then)
	}
	rsp, err := http.Get("http://" + now + "/g0/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	got, err := io.ReadAll(rsp.Body)
	want := soundBody(n)[4:]
	if err != nil || rsp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("sound %d over HTTP: status %d, %d bytes, want %d, %v", n, rsp.StatusCode,
			len(got), len(want), err)
	}
}
