package notify

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// tokenTimeout bounds the fetch of an access token.
const tokenTimeout = 10 * time.Second

// accessTokens shares the fetch of an access token among all senders. The clients of oauth2
// fetch inside a request: its deadline does not end the fetch, and requests that wait for it
// fetch again, one after the other.
type accessTokens struct {
	source oauth2.TokenSource // keeps a token while it is valid, and fetches without a context
	fetch  singleflight.Group
}

// get returns a valid access token. The end of ctx ends the wait, and not the fetch, which
// serves the senders that follow. Any goroutine.
func (a *accessTokens) get(ctx context.Context) (*oauth2.Token, error) {
	fetched := a.fetch.DoChan("", func() (any, error) { return a.source.Token() })
	select {
	case r := <-fetched:
		token, _ := r.Val.(*oauth2.Token)
		return token, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tokenClient returns a client that fetches tokens as c does, within a time limit.
func tokenClient(c *http.Client) *http.Client {
	bounded := *c
	if bounded.Timeout == 0 {
		bounded.Timeout = tokenTimeout
	}
	return &bounded
}
