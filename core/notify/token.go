package notify

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// tokenTimeout bounds the fetch of an access token.
const tokenTimeout = 10 * time.Second

// accessTokens shares the access token of an account, and the fetch of the next one, among
// all senders. The clients of oauth2 fetch inside a request: its deadline does not end the
// fetch, and requests that wait for it fetch again, one after the other.
type accessTokens struct {
	source oauth2.TokenSource // fetches a token without a context

	mu    sync.Mutex
	token *oauth2.Token // the last one. nil: none yet.
	next  *tokenFetch   // in flight. nil: none.
}

// tokenFetch is one fetch of an access token. Its result is set before done is closed.
type tokenFetch struct {
	done  chan struct{}
	token *oauth2.Token
	err   error
}

// get returns a valid access token. The end of ctx ends the wait, and not the fetch, which
// serves the senders that follow. Any goroutine.
func (a *accessTokens) get(ctx context.Context) (*oauth2.Token, error) {
	a.mu.Lock()
	if a.token.Valid() {
		defer a.mu.Unlock()
		return a.token, nil
	}
	f := a.next
	if f == nil {
		f = &tokenFetch{done: make(chan struct{})}
		a.next = f
		go a.fetch(f)
	}
	a.mu.Unlock()
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch fetches a token for all that wait for f.
func (a *accessTokens) fetch(f *tokenFetch) {
	f.token, f.err = a.source.Token()
	a.mu.Lock()
	if f.err == nil {
		a.token = f.token
	}
	a.next = nil
	a.mu.Unlock()
	close(f.done)
}

// tokenClient returns a client that fetches tokens as c does, within a time limit.
func tokenClient(c *http.Client) *http.Client {
	bounded := *c
	if bounded.Timeout == 0 {
		bounded.Timeout = tokenTimeout
	}
	return &bounded
}
