package link

import (
	"errors"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestAnswer requires that an answer of another kind has an error that says what came, and
// never an empty one.
func TestAnswer(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		rsp  pb.Message
		err  error
		want string // in the error; "" for none
	}{
		{&pb.IMValidateRsp{}, nil, ""},
		{nil, lost, "lost"},
		{&pb.IMValidateRsp{}, lost, "lost"},
		{&pb.IMHeartBeat{}, nil, "IMHeartBeat"},
		{nil, nil, "no answer"},
	} {
		m, err := Answer[*pb.IMValidateRsp](c.rsp, c.err)
		if c.want == "" {
			if err != nil || m == nil {
				t.Errorf("%v, %v: %v, %v", c.rsp, c.err, m, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v: error %v, want %q", c.rsp, c.err, err, c.want)
		}
		if c.err == nil && im.KindOf(err) != im.Malformed {
			t.Errorf("%v: kind %s", c.rsp, im.KindOf(err))
		}
	}
}
