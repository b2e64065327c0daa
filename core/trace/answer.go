package trace

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of the answer of a collector, ExportTraceServiceResponse of OTLP 1.0. The package that has
// the message needs the whole of gRPC.
const (
	partialSuccess protowire.Number = 1 // of the answer, a message
	rejectedSpans  protowire.Number = 1 // of partialSuccess, int64
	errorMessage   protowire.Number = 2 // of partialSuccess, text
)

// maxReason bounds the reason of a collector, in bytes.
const maxReason = 200

// readAnswer returns the number of spans that a collector did not accept, with its reason as an
// error. Both are zero when it has accepted all, and for an answer that is not of OTLP: some
// collectors answer with a text.
func readAnswer(answer []byte) (rejected int, err error) {
	part, ok := field(answer, partialSuccess, protowire.BytesType)
	if !ok {
		return 0, nil
	}
	inner, _ := protowire.ConsumeBytes(part)
	part, ok = field(inner, rejectedSpans, protowire.VarintType)
	if !ok {
		return 0, nil
	}
	n, _ := protowire.ConsumeVarint(part)
	if n == 0 || n > math.MaxInt32 {
		return 0, nil
	}
	reason := "no reason given"
	if part, ok := field(inner, errorMessage, protowire.BytesType); ok {
		text, _ := protowire.ConsumeBytes(part)
		reason = fmt.Sprintf("%q", text[:min(len(text), maxReason)])
	}
	return int(n), errors.New(reason)
}

// field returns what follows the tag of the last field of a message with a number and a type. ok is
// false without one, and when the message is broken.
func field(m []byte, number protowire.Number, t protowire.Type) (value []byte, ok bool) {
	for len(m) > 0 {
		num, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return nil, false
		}
		m = m[n:]
		length := protowire.ConsumeFieldValue(num, kind, m)
		if length < 0 {
			return nil, false
		}
		if num == number && kind == t {
			value, ok = m[:length], true
		}
		m = m[length:]
	}
	return value, ok
}
