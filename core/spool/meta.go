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
	maxMeta = 4096 // bytes of a meta file; more than the longest there is
)

// metaVersion is the one written, and the one read.
const metaVersion = 1

// meta is what stands in a meta file.
type meta struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	From    uint32 `json:"from"`
	To      uint32 `json:"to"`
	Name    []byte `json:"name"` // base64: clients may use any charset
	Size    uint32 `json:"size"`
	Created int64  `json:"created"` // unix seconds
}

func formatMeta(i Info) []byte {
	b, err := json.Marshal(meta{Version: metaVersion, ID: i.ID, From: i.From, To: i.To,
		Name: []byte(i.Name), Size: i.Size, Created: i.Created.Unix()})
	if err != nil {
		panic(fmt.Sprintf("spool: meta does not encode: %v", err)) // numbers and bytes always do
	}
	return append(b, '\n')
}

// parseMeta reads a meta file; a file that is not whole, or not ours, is an error.
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
		return Info{}, errors.New("more or less than one value")
	case m.Version != metaVersion:
		return Info{}, fmt.Errorf("version %d is not known", m.Version)
	case !validID(m.ID):
		return Info{}, errors.New("id is no UUID")
	case len(m.Name) == 0 || len(m.Name) > maxName:
		return Info{}, errors.New("name out of range")
	}
	return Info{ID: m.ID, From: m.From, To: m.To, Name: string(m.Name), Size: m.Size,
		Created: time.Unix(m.Created, 0)}, nil
}

// validID reports whether id is a UUID in lower case, with its dashes. Nothing else becomes part of a file's name.
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
