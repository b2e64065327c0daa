package link

import (
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Answer returns the answer of a call as the message that the caller expects. The error is
// that of the call, or of kind Malformed for another answer, which it names.
func Answer[T pb.Message](rsp pb.Message, err error) (T, error) {
	answer, ok := rsp.(T)
	if err == nil && !ok {
		if rsp == nil {
			return answer, im.Errorf(im.Malformed, "no answer")
		}
		err = im.Errorf(im.Malformed, "an unexpected answer: %s", rsp.Command())
	}
	return answer, err
}
