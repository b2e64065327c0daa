package trace

import (
	"encoding/binary"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"teamtalk/core/hash"
)

// Stage is a part of the way of a message. Its number is part of the ids of spans and must not
// change.
type Stage uint8

// The stages, in the order of the way.
const (
	// Whole is a message at its sender's message server, from its arrival to the ack to the
	// sender.
	Whole Stage = iota + 1
	// Store is the call of a message server to a db_proxy.
	Store
	// Queue is the wait of a message at a db_proxy for its batch.
	Queue
	// Commit is the batch that stored the message. Count: messages in it.
	Commit
	// Forward is a message given to a route server, or to the mesh, for the other message
	// servers.
	Forward
	// Route is a message at a route server. Count: message servers that it goes to.
	Route
	// Deliver is a message given to the connections of its users at the sender's message
	// server, DeliverRouted the same at another one. Count: connections.
	Deliver
	DeliverRouted
	// Device is a delivery, from the write to a device to its ack. DeviceRouted is the same at
	// another message server than that of the sender.
	Device
	DeviceRouted
	stages
)

// stageInfo describes the spans of a stage.
type stageInfo struct {
	role, name string
	kind       tracepb.Span_SpanKind
	parent     Stage // 0: none
	// many: several processes record spans of the stage, or one process several.
	many  bool
	count string // name of the attribute; "": nothing is counted
}

// infos are the stages by number.
var infos = [stages]stageInfo{
	Whole: {role: "msg", name: "message", kind: tracepb.Span_SPAN_KIND_SERVER},
	Store: {role: "msg", name: "store", kind: tracepb.Span_SPAN_KIND_CLIENT, parent: Whole},
	Queue: {role: "dbproxy", name: "queue", kind: tracepb.Span_SPAN_KIND_SERVER, parent: Store},
	Commit: {role: "dbproxy", name: "commit", kind: tracepb.Span_SPAN_KIND_INTERNAL, parent: Store,
		count: "messaging.batch.message_count"},
	Forward: {role: "msg", name: "forward", kind: tracepb.Span_SPAN_KIND_PRODUCER, parent: Whole},
	Route: {role: "route", name: "route", kind: tracepb.Span_SPAN_KIND_SERVER, parent: Forward,
		many: true, count: "teamtalk.servers"},
	Deliver: {role: "msg", name: "deliver", kind: tracepb.Span_SPAN_KIND_INTERNAL, parent: Whole,
		count: "teamtalk.connections"},
	DeliverRouted: {role: "msg", name: "deliver", kind: tracepb.Span_SPAN_KIND_CONSUMER,
		parent: Forward, many: true, count: "teamtalk.connections"},
	Device: {role: "msg", name: "device", kind: tracepb.Span_SPAN_KIND_PRODUCER, parent: Whole,
		many: true},
	DeviceRouted: {role: "msg", name: "device", kind: tracepb.Span_SPAN_KIND_PRODUCER,
		parent: Forward, many: true},
}

// spanID returns the id of the span of a stage. salt is 0 for a stage that is recorded once.
func spanID(trace ID, s Stage, salt uint64) [8]byte {
	var id [8]byte
	of := hash.Next(binary.BigEndian.Uint64(trace[:8]) + uint64(s))
	binary.BigEndian.PutUint64(id[:], hash.Next(of^salt)|1) // 0 would be no id
	return id
}
