//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
)

// caller is a system that writes to a user whose phone is not connected. It calls the HTTP
// API at a fixed rate, and repeats no call. Each text is pushed to the phone.
type caller struct {
	t        testing.TB
	addr     string // of the HTTP API
	from, to uint32

	quit chan struct{}
	done sync.WaitGroup
	sent int // texts; valid after done

	acked  sync.Map // of texts whose call succeeded
	count  atomic.Int64
	pushed atomic.Int64
}

// callerPace is the time between two calls.
const callerPace = 100 * time.Millisecond

// callerUsers is the number of users of a deployment with a caller: the writers, the sender
// of the caller's texts and the user with the phone.
const callerUsers = steadyWriters + 2

// newCaller starts an HTTP API and a push server, and calls.
func newCaller(t *testing.T, sys *deployment) *caller {
	t.Helper()
	service := newPushService(t)
	push := service.flags(t, sys, "--http.push")
	a := startHTTPAPI(t, sys, apps(t), push...)
	phone, to := loggedIn(t, sys.msgAddr[0], fmt.Sprintf("u%05d", callerUsers), android)
	phone.setToken("away")
	phone.Close() // without a logout, so the token remains
	awaitPushLink(t, a.s)
	c := &caller{t: t, addr: a.addr, from: to - 1, to: to, quit: make(chan struct{})}
	c.done.Go(c.call)
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for range service.pushed {
			c.pushed.Add(1)
		}
	}()
	t.Cleanup(func() {
		c.stop()
		service.Close() // before the channel that it writes to
		close(service.pushed)
		<-counted
	})
	return c
}

// text returns the text of a number.
func (c *caller) text(n int) string { return fmt.Sprintf("call %d", n) }

// call calls until quit is closed.
func (c *caller) call() {
	pace := time.NewTicker(callerPace)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-c.quit:
			return
		}
		c.sent++
		if text := c.text(c.sent); c.send(text) {
			c.acked.Store(text, true)
			c.count.Add(1)
		}
	}
}

// send sends a text. It reports whether the call succeeded.
func (c *caller) send(text string) bool {
	body := fmt.Sprintf(`{"app_key":%q,"req_user_id":%d,"to_user_id":%d,"text":%q}`, appKey,
		c.from, c.to, text)
	rsp, err := admins.Post("http://"+c.addr+"/query/SendMessage", "application/json",
		strings.NewReader(body))
	if err != nil {
		return false
	}
	defer rsp.Body.Close()
	var got struct {
		Code int `json:"error_code"`
	}
	err = json.NewDecoder(rsp.Body).Decode(&got)
	return rsp.StatusCode == http.StatusOK && err == nil && got.Code == 0
}

// more waits until a further call succeeds, and until the phone gets a further push.
func (c *caller) more() {
	c.t.Helper()
	calls, pushes := c.count.Load(), c.pushed.Load()
	until(c.t, "a further call", func() bool { return c.count.Load() > calls })
	until(c.t, "a further push", func() bool { return c.pushed.Load() > pushes })
}

// stop ends the calls.
func (c *caller) stop() {
	select {
	case <-c.quit:
	default:
		close(c.quit)
	}
	c.done.Wait()
}

// stored ends the calls and checks the history: it has each text of a call that succeeded
// once, and any other at most once. addr is a message server's.
func (c *caller) stored(addr string) {
	c.t.Helper()
	c.stop()
	cipher, err := im.NewTextCipher("")
	if err != nil {
		c.t.Fatal(err)
	}
	times := map[string]int{}
	for _, m := range history(c.t, conn(c.t, addr, fmt.Sprintf("u%05d", c.from), ios), c.to) {
		text, _ := cipher.Decrypt(m.Data)
		times[text]++
	}
	for n := 1; n <= c.sent; n++ {
		text := c.text(n)
		_, acked := c.acked.Load(text)
		if times[text] > 1 || acked && times[text] == 0 {
			c.t.Errorf("%q is stored %d times, its call succeeded: %v", text, times[text], acked)
		}
	}
	c.t.Logf("%d of %d calls succeeded, %d pushes", c.count.Load(), c.sent, c.pushed.Load())
}
