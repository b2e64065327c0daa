package lockout

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/im"
)

// Memory is a Store in memory. It keeps the marks of im.MaxFailureKeys keys: above, it
// drops those of the key that was used least recently. Any goroutine.
type Memory struct {
	mu    sync.Mutex
	marks *simplelru.LRU[im.LoginMarkKey, []im.LoginMark]
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	m := &Memory{}
	// The only error is a size that is not positive.
	m.marks, _ = simplelru.NewLRU[im.LoginMarkKey, []im.LoginMark](im.MaxFailureKeys, nil)
	return m
}

// NameKeys returns the names in lower case, without blanks at the end.
func (m *Memory) NameKeys(_ context.Context, names []string) ([]string, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = strings.ToLower(strings.TrimRight(name, " "))
	}
	return keys, nil
}

// LoginMarks returns the marks of keys; see im.LoginStore.
func (m *Memory) LoginMarks(_ context.Context, keys []im.LoginMarkKey) ([][]im.LoginMark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lists := make([][]im.LoginMark, len(keys))
	for i, k := range keys {
		list, _ := m.marks.Get(k)
		lists[i] = slices.Clone(list)
	}
	return lists, nil
}

// FailureNetworks returns the keys of networks; see im.LoginStore.
func (m *Memory) FailureNetworks(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var networks []string
	for _, k := range m.marks.Keys() {
		if k.Kind == im.FailuresOfNetwork {
			networks = append(networks, k.Key)
		}
	}
	return networks, nil
}

// ChangeLoginMarks changes marks; see im.LoginStore.
func (m *Memory) ChangeLoginMarks(_ context.Context, drops []im.LoginMarkDrop,
	puts []im.NewLoginMark) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range drops {
		list, _ := m.marks.Peek(d.LoginMarkKey)
		if d.Values != nil {
			list = slices.DeleteFunc(list, func(old im.LoginMark) bool {
				return slices.Contains(d.Values, old.Value)
			})
		}
		if len(list) == 0 || d.Values == nil {
			m.marks.Remove(d.LoginMarkKey)
		} else {
			m.marks.Add(d.LoginMarkKey, list)
		}
	}
	for _, p := range puts {
		m.put(p)
	}
	return nil
}

// put puts a mark. The caller holds the mutex.
func (m *Memory) put(p im.NewLoginMark) {
	list, _ := m.marks.Peek(p.LoginMarkKey)
	list = slices.DeleteFunc(list, func(old im.LoginMark) bool {
		return int64(p.At)-int64(old.At) >= int64(p.Keep/time.Second)
	})
	at := slices.IndexFunc(list, func(old im.LoginMark) bool { return old.Value == p.Value })
	if at >= 0 && p.Kind.Renews() {
		list = slices.Delete(list, at, at+1)
		at = -1
	}
	if at < 0 {
		list = append(list, p.LoginMark)
	}
	if over := len(list) - p.Kind.Most(); over > 0 {
		list = slices.Delete(list, 0, over)
	}
	m.marks.Add(p.LoginMarkKey, list)
}
