package msg

import (
	"reflect"
	"testing"

	"teamtalk/proto/pb"
)

// TestForgedServerFields sets every field of a message that only servers set. db_proxy must
// receive none of them: a forged connection and epoch, for example, would hold back the
// messages of another client. A new field of pb.MsgData is forged as well.
func TestForgedServerFields(t *testing.T) {
	ofClients := map[string]bool{"FromUserID": true, "ToSessionID": true, "CreateTime": true,
		"Type": true, "Data": true, "ClientMsgID": true,
		"HasPrevID": true, "HasGroupVersion": true} // the last two: asked for by the message server
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, ios)
		m := &pb.MsgData{}
		for _, f := range reflect.ValueOf(m).Elem().Fields() {
			switch f.Kind() {
			case reflect.Uint32:
				f.SetUint(77)
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Slice:
				f.SetBytes([]byte("forged"))
			}
		}
		m.ToSessionID, m.Type = 2, pb.MsgType_MSG_TYPE_SINGLE_TEXT
		alice.send(7, m)
		alice.want(pb.CmdMsgDataAck)
		got := w.db.asked[len(w.db.asked)-1].(*pb.MsgData)
		for f, v := range reflect.ValueOf(got).Elem().Fields() {
			own := f.Name == "SenderConn" || f.Name == "Epoch" // set by the message server
			if !ofClients[f.Name] && !v.IsZero() && !(own && v.Uint() != 77) {
				t.Errorf("db_proxy received %s = %v", f.Name, v)
			}
		}
		if got.FromUserID != 1 {
			t.Errorf("db_proxy received a message of user %d", got.FromUserID)
		}
	})
}
