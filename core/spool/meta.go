package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	maxName = 1024
	maxMeta = 4096 // longest meta file, in bytes; longer than any that is written
)

// metaVersion is the version of the meta files that are written and read.
const metaVersion = 1

// meta is the content of a meta file.
type meta struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	From    uint32 `json:"from"`
	To      uint32 `json:"to"`
	Name    []byte `json:"name"` // base64: clients may use any charset
	Size    uint32 `json:"size"`
	Created int64  `json:"created"` // unix seconds
	// SenderID is empty in files of earlier versions.
	SenderID string `json:"sender_id,omitempty"`
}

func formatMeta(i Info) []byte {
	b, err := json.Marshal(meta{Version: metaVersion, ID: i.ID, From: i.From, To: i.To,
		Name: []byte(i.Name), Size: i.Size, Created: i.Created.Unix(),
		SenderID: i.SenderID})
	if err != nil {
		panic(fmt.Sprintf("spool: encode meta: %v", err)) // numbers and bytes always encode
	}
	return append(b, '\n')
}

// parseMeta reads a meta file. It returns an error for an incomplete or foreign one.
func parseMeta(b []byte) (Info, error) {
	if len(b) > maxMeta {
		return Info{}, errors.New("too long")
	}
	var m meta
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&m); err != nil {
		return Info{}, err
	}
	switch {
	case dec.More() || b[len(b)-1] != '\n':
		return Info{}, errors.New("not exactly one JSON value")
	case m.Version != metaVersion:
		return Info{}, fmt.Errorf("unknown version %d", m.Version)
	case !validID(m.ID):
		return Info{}, errors.New("the id is not a UUID")
	case m.SenderID != "" && !validID(m.SenderID):
		return Info{}, errors.New("the sender's id is not a UUID")
	case len(m.Name) == 0 || len(m.Name) > maxName:
		return Info{}, errors.New("the name is empty or too long")
	}
	return Info{ID: m.ID, From: m.From, To: m.To, Name: string(m.Name), Size: m.Size,
		Created: time.Unix(m.Created, 0), SenderID: m.SenderID}, nil
}

// validID reports whether id is a UUID in lower case with dashes. Only such ids become
// part of a file's name.
func validID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
