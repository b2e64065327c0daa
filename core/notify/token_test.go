package notify

import (
	"context"
	"net/http"
	"testing"
	"time"
)

// TestSendEndsBeforeToken lets the context of a notification end while Google has not
// answered the request for an access token. The next notification shares this request.
func TestSendEndsBeforeToken(t *testing.T) {
	s := newService(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.hold = func() {
		close(asked)
		<-answer
	}
	f := newFCM(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan Result, 1)
	go func() { first <- f.Send(ctx, android) }()
	<-asked
	cancel()
	select {
	case got := <-first:
		if got.Outcome != Later {
			t.Errorf("without a token: %+v, want Later", got)
		}
	case <-time.After(time.Minute):
		t.Error("Send waits for the token after its context has ended")
	}
	second := make(chan Result, 1)
	go func() { second <- f.Send(t.Context(), android) }()
	close(answer)
	if got := <-second; got.Outcome != Sent {
		t.Errorf("with a token: %+v, want Sent", got)
	}
	if s.tokens != 1 {
		t.Errorf("%d requests for a token, want 1", s.tokens)
	}
}

func TestTokenClientHasALimit(t *testing.T) {
	if got := tokenClient(http.DefaultClient).Timeout; got != tokenTimeout {
		t.Errorf("limit of a client without one: %s, want %s", got, tokenTimeout)
	}
	if got := tokenClient(&http.Client{Timeout: time.Second}).Timeout; got != time.Second {
		t.Errorf("limit of a client with 1 s: %s", got)
	}
	if http.DefaultClient.Timeout != 0 {
		t.Error("tokenClient changes the client that it gets")
	}
}
