// Package pb is the wire vocabulary: every message that travels between clients and servers, as Go types, and the table that
// joins command ids to them.
//
// The types are generated from the .proto files beside this folder (go generate ./proto/...), except MsgData, the chat message
// itself, which is written by hand: it is most of what a messenger moves, and pays for it (see msgdata.go for numbers).
//
// Encoding is protobuf proto2. Peers built on proto2 reject a message that lacks a required field, so AppendBody
// fails rather than leave one out, and ParseBody refuses what lacks one.
package pb

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

//go:generate go run ../gen -in .. -out .

// Command is a command id: what a frame's body is. Its high byte is the service id.
type Command uint16

// Service is the service id that stands beside c in a frame's header.
func (c Command) Service() uint16 { return uint16(c) >> 8 }

// String is the message's name, or the number where no message has it.
func (c Command) String() string {
	if i, ok := byID[c]; ok {
		return commands[i].name
	}
	return fmt.Sprintf("0x%04x", uint16(c))
}

// Message is what a frame carries.
type Message interface {
	// Command is the id of this kind of message, the same for every value of a type.
	Command() Command
	// AppendBody appends the encoding to b and returns the extended slice. It fails when a required field is not set.
	AppendBody(b []byte) ([]byte, error)
	// ParseBody sets the message to what b encodes. b may be reused as soon as it returns. The
	// error wraps ErrIncomplete when b is protobuf, but lacks a required field.
	ParseBody(b []byte) error
}

// Attachment is a message with room for attach_data: the opaque bytes that a server sends with a request to find its way
// back, and that the answering server echoes unchanged. They never go to a client.
type Attachment interface {
	Message
	GetAttachData() []byte
	HasAttachData() bool
	SetAttachData(v []byte)
	ClearAttachData()
}

// New returns an empty message for c, nil when no message has that id.
func New(c Command) Message {
	if i, ok := byID[c]; ok {
		return commands[i].make()
	}
	return nil
}

// Commands returns all ids that have a message, in increasing order.
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

// byID is commands by id.
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

// ErrIncomplete says that a body is protobuf but lacks a required field. An unknown value of a
// required enum counts as lacking, as proto2 demands. The stream it came in is sound: the sender
// only builds this message in another way.
var ErrIncomplete = errors.New("pb: required field missing")

// parseBody decodes b into m. It decodes a second time only on the error path: the library has no
// error value that tells a missing field from bytes that are no protobuf.
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
