// Package pb has the messages that clients and servers exchange, as Go types, and the
// table that joins command ids to them.
//
// The types are generated from the .proto files beside this folder (go generate
// ./proto/...), except MsgData, the chat message. Most messages that a messenger moves
// are chat messages, so MsgData is written by hand for speed (msgdata.go has the
// numbers), and so is the encoding of the acks, IMMsgDataAck.
//
// The encoding is protobuf proto2. Peers built on proto2 reject a message without one of
// its required fields. So AppendBody returns an error rather than leave one out, and
// ParseBody rejects a message without one.
package pb

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

//go:generate go run ../gen -in .. -out .

// Command is a command id. It identifies the message in a frame's body. Its high byte is
// the service id.
type Command uint16

// Service returns the service id, which a frame's header has beside the command id.
func (c Command) Service() uint16 { return uint16(c) >> 8 }

// String returns the message's name, and the number when no message has it.
func (c Command) String() string {
	if i, ok := byID[c]; ok {
		return commands[i].name
	}
	return fmt.Sprintf("0x%04x", uint16(c))
}

// Message is the content of a frame's body.
type Message interface {
	// Command returns the command id, which is the same for all values of a type.
	Command() Command
	// AppendBody appends the encoding to b and returns the extended slice. It returns an
	// error when a required field is not set.
	AppendBody(b []byte) ([]byte, error)
	// ParseBody sets the message to the one that b encodes. It does not retain b. The
	// error wraps ErrIncomplete when b is protobuf and lacks a required field.
	ParseBody(b []byte) error
}

// Attachment is a message with attach_data: opaque bytes that a server sends with a
// request, and that the answering server echoes unchanged, so that the first server finds
// the request's state again. They are never sent to a client.
type Attachment interface {
	Message
	GetAttachData() []byte
	HasAttachData() bool
	SetAttachData(v []byte)
	ClearAttachData()
}

// New returns an empty message for c; nil when no message has that id.
func New(c Command) Message {
	if i, ok := byID[c]; ok {
		return commands[i].make()
	}
	return nil
}

// Commands returns the ids of all messages, in increasing order.
func Commands() []Command {
	ids := make([]Command, len(commands))
	for i, c := range commands {
		ids[i] = c.id
	}
	return ids
}

type commandInfo struct {
	id   Command
	name string
	make func() Message
}

// byID maps an id to its index in commands.
var byID = func() map[Command]int {
	m := make(map[Command]int, len(commands))
	for i, c := range commands {
		m[c.id] = i
	}
	return m
}()

func appendBody(b []byte, m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(b, m)
}

// ErrIncomplete means that a body is protobuf and lacks a required field. An unknown
// value of a required enum counts as lacking, as proto2 demands. The stream of frames is
// intact: the sender only builds this message in another way.
var ErrIncomplete = errors.New("pb: required field missing")

// parseBody decodes b into m. After an error it decodes again, because the library has no
// error value that distinguishes a missing field from bytes that are not protobuf.
func parseBody(b []byte, m proto.Message) error {
	err := proto.Unmarshal(b, m)
	if err == nil {
		return nil
	}
	partial := proto.UnmarshalOptions{AllowPartial: true}
	if partial.Unmarshal(b, m.ProtoReflect().New().Interface()) == nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return err
}
