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

// TestFCMPings sends with the client that the server uses. Its pings end a connection that
// no longer answers, which HTTP/2 would give to the requests that follow.
func TestFCMPings(t *testing.T) {
	s := newService(t)
	f := newFCMWith(t, s, nil)
	transport := f.client.Transport.(*http.Transport)
	if c := transport.HTTP2; c == nil || c.SendPingTimeout != pingAfter ||
		c.PingTimeout != pingWait {
		t.Errorf("pings of HTTP/2: %+v", c)
	}
	transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	if got := f.Send(t.Context(), android); got.Outcome != Sent {
		t.Fatalf("Send: %+v", got)
	}
	if s.request.ProtoMajor != 2 {
		t.Errorf("sent with %s, want HTTP/2", s.request.Proto)
	}
}
