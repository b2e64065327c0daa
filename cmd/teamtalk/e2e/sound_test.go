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
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// soundPaths returns where the sounds of the messages between two are, oldest first, as the store has it.
func soundPaths(t *testing.T, sys *deployment, a, b uint32) (paths []string) {
	t.Helper()
	if !sys.separate {
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
			paths = append([]string{m.Audio.Path}, paths...)
		}
		return paths
	}
	db, err := sql.Open("mysql", sys.store[3])
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

// TestSounds: the sound of an audio message is kept in a folder where dbproxy is alone; on the small file server where one runs in its process: under a URL that
// everybody can fetch, and nowhere else. What was kept before, in the folder or under another address of that server, is still played.
func TestSounds(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2}, func(t *testing.T, sys *deployment) {
		data := filepath.Join(t.TempDir(), "dbproxy")
		if !sys.separate {
			data = sys.store[1]
		}
		// run starts dbproxy anew, with a small file server at that address or without.
		run := func(files string) {
			t.Helper()
			sys.dbproxy.stop()
			flags := []string{"--data-dir", data, "--msfs.min-free", "0B"}
			roles := "login,msg,route,dbproxy"
			if sys.separate {
				roles = "dbproxy"
			}
			if files != "" {
				flags, roles = append(flags, "--msfs.listen", files), roles+",msfs"
			}
			sys.dbproxy.extra = append(flags, "--roles", roles)
			sys.dbproxy.start()
			if sys.separate {
				for _, m := range sys.msg {
					m.awaitReady()
				}
			}
		}
		sound := func(n int) []byte {
			return append(binary.BigEndian.AppendUint32(nil, uint32(n)), bytes.Repeat([]byte{byte(0xf0 + n)}, 1000*n)...)
		}
		var one, two uint32
		send := func(n int) {
			t.Helper()
			var w *wire
			w, two = loggedIn(t, sys.msgAddr[0], "u00002", android)
			w.Close()
			w, one = loggedIn(t, sys.msgAddr[0], "u00001", android)
			defer w.Close()
			w.send(2, &pb.MsgData{ToSessionID: two, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: sound(n)})
			w.expectSeq(2, &pb.IMMsgDataAck{})
		}
		first, second := reserve(t), reserve(t)
		run("")
		send(1)
		run(first)
		send(2)
		run(second)
		send(3)

		paths := soundPaths(t, sys, one, two)
		if len(paths) != 3 {
			t.Fatalf("sounds at %q", paths)
		}
		if _, err := os.Stat(filepath.Join(data, "audio", paths[0])); err != nil {
			t.Errorf("the first: %v", err)
		}
		for i, server := range map[int]string{1: first, 2: second} {
			base, name, _ := strings.Cut(paths[i], "/g0/")
			if base != "http://"+server {
				t.Errorf("sound %d is at %s, want it at %s", i+1, paths[i], server)
			}
			rsp, err := http.Get("http://" + second + "/g0/" + name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rsp.Body)
			rsp.Body.Close()
			if want := sound(i + 1)[4:]; err != nil || rsp.StatusCode != 200 || !bytes.Equal(got, want) {
				t.Errorf("sound %d over HTTP: status %d, %d bytes, want %d, %v", i+1, rsp.StatusCode, len(got), len(want), err)
			}
		}
		kept, err := filepath.Glob(filepath.Join(data, "audio", "*", "*"))
		if err != nil || len(kept) != 1 {
			t.Errorf("in the folder of before: %q, %v", kept, err)
		}
		w, _ := loggedIn(t, sys.msgAddr[1], "u00002", android)
		w.send(5, pb.IMGetMsgListReq_builder{UserId: new(uint32(0)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(), SessionId: &one,
			MsgIdBegin: new(uint32(0)), MsgCnt: new(uint32(10))}.Build())
		list := &pb.IMGetMsgListRsp{}
		w.expectSeq(5, list)
		if len(list.GetMsgList()) != 3 {
			t.Fatalf("history: %v", list)
		}
		for i, m := range list.GetMsgList() {
			if want := sound(3 - i); !bytes.Equal(m.GetMsgData(), want) {
				t.Errorf("message %d is played with %d bytes, want %d", m.GetMsgId(), len(m.GetMsgData()), len(want))
			}
		}
	})
}
