package services

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// callLimit bounds a call of the HTTP API. groupEvery makes each tenth call create a group.
const (
	callLimit  = 12 * time.Second // more than the server's own limit
	groupEvery = 10
)

// api calls the HTTP API.
type api struct {
	url, key string
	client   *http.Client
}

func newAPI(w *World) *api {
	return &api{url: "http://" + w.API + "/query/", key: w.AppKey,
		// A server that stops would wait for a connection that stays open.
		client: &http.Client{Timeout: callLimit,
			Transport: &http.Transport{DisableKeepAlives: true}}}
}

// call makes a call. An answer with an error_code is an error.
func (a *api) call(ctx context.Context, name string, fields map[string]any, answer any) error {
	fields["app_key"] = a.key
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	rsp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(rsp.Body).Decode(&raw); err != nil {
		return err
	}
	var code struct {
		Code int    `json:"error_code"`
		Text string `json:"error_msg"`
	}
	if err := json.Unmarshal(raw, &code); err != nil {
		return err
	}
	if code.Code != 0 {
		return im.Errorf(im.Unavailable, "%s: error_code %d, %s", name, code.Code, code.Text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}

// calls writes texts to a user over the HTTP API, and creates groups.
type calls struct {
	*api
	w      *World
	cipher *im.TextCipher
	to     *client.Client
	from   uint32
	row    int

	mu     sync.Mutex // guards the following fields
	texts  map[string]uint32
	groups []uint32
	came   map[string]int
}

func openCalls(ctx context.Context, w *World) (job, error) {
	c := &calls{api: newAPI(w), w: w, came: map[string]int{}}
	conn, err := w.login(ctx, callsFrom, tcp.Options{}, tcp.Credentials{})
	if err != nil {
		return nil, err
	}
	c.from = conn.UserID()
	_ = conn.Close()
	if c.cipher, err = im.NewTextCipher(""); err != nil {
		return nil, err
	}
	c.to, err = w.open(ctx, callsTo, c.event)
	return c, err
}

// event records a text that arrived.
func (c *calls) event(e client.Event) {
	r, ok := e.(client.Received)
	if !ok || r.Message.Type.IsGroup() {
		return
	}
	text, err := c.cipher.Decrypt(r.Message.Data)
	if err != nil {
		text = fmt.Sprintf("%q", r.Message.Data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came[text]++
}

func (c *calls) users() (a, b uint32) { return c.from, c.to.UserID() }

func (c *calls) close() { _ = c.to.Close() }

func (c *calls) begin(row int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row, c.texts, c.groups, c.came = row, map[string]uint32{}, nil, map[string]int{}
}

// prefix begins the texts of the row.
func (c *calls) prefix() string { return fmt.Sprintf("call %d ", c.row) }

func (c *calls) try(ctx context.Context, n, _ int) error {
	if n%groupEvery == 0 {
		return c.createGroup(ctx, n)
	}
	var answer struct {
		ID uint32 `json:"msg_id"`
	}
	text := fmt.Sprintf("%s%d", c.prefix(), n)
	err := c.call(ctx, "SendMessage", map[string]any{"req_user_id": c.from,
		"to_user_id": c.to.UserID(), "text": text, "client_msg_id": text}, &answer)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts[text] = answer.ID
	return nil
}

// createGroup creates a group of both users. A call without an answer may have created one.
func (c *calls) createGroup(ctx context.Context, n int) error {
	var answer struct {
		ID uint32 `json:"group_id"`
	}
	err := c.call(ctx, "CreateGroup", map[string]any{"req_user_id": 0,
		"group_name": fmt.Sprint("g", n), "group_type": 1, "group_avatar": "",
		"user_id_list": []uint32{c.from, c.to.UserID()}}, &answer)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups = append(c.groups, answer.ID)
	return nil
}

func (c *calls) settle(ctx context.Context) {
	until(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for text := range c.texts {
			if c.came[text] == 0 {
				return false
			}
		}
		return true
	})
}

func (c *calls) check(ctx context.Context, n *Counts) error {
	stored, err := c.w.textsOf(ctx, c.from, c.to.UserID(), c.prefix())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for text, id := range c.texts {
		if ids := stored[text]; len(ids) == 0 || ids[0] != id {
			n.Lost++
			n.example("%q was answered with id %d, and the tables have it under %v", text, id, ids)
		}
		if c.came[text] == 0 {
			n.Lost++
			n.example("%q, stored as %d, was not delivered", text, id)
		}
	}
	checkTimes(n, stored, c.came)
	want := []uint32{c.from, c.to.UserID()}
	slices.Sort(want)
	for _, g := range c.groups {
		users, err := c.w.Members(ctx, g)
		if err != nil {
			return err
		}
		n.Delivered++
		if !slices.Equal(users, want) {
			n.Lost++
			n.example("group %d was created with %v, and has %v", g, want, users)
		}
	}
	return nil
}

// checkTimes counts the texts that are stored or arrived more than once, or that arrived
// and are not stored.
func checkTimes(n *Counts, stored map[string][]uint32, came map[string]int) {
	for text, ids := range stored {
		if len(ids) > 1 {
			n.Duplicated++
			n.example("%q is stored as %v", text, ids)
		}
		switch times := came[text]; {
		case times > 1:
			n.Duplicated++
			n.example("%q arrived %d times", text, times)
		case times == 1:
			n.Delivered++
		}
	}
}

// kickedUsers take turns: a login after a kick waits for some seconds.
const kickedUsers = 4

// kicks lets KickUser end connections.
type kicks struct {
	*api
	w     *World
	stays atomic.Int64
	ended atomic.Int64
}

func openKicks(_ context.Context, w *World) (job, error) {
	return &kicks{api: newAPI(w), w: w}, nil
}

func (*kicks) close() {}

func (k *kicks) begin(int) {
	k.stays.Store(0)
	k.ended.Store(0)
}

func (k *kicks) try(ctx context.Context, n, _ int) error {
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	kicked := make(chan struct{})
	end := sync.OnceFunc(func() { close(kicked) })
	conn, err := k.w.login(limit, firstKicked+n%kickedUsers, tcp.Options{Heartbeat: time.Second,
		OnFrame: func(_ *tcp.Conn, h pdu.Header, _ []byte) {
			if h.Command == pb.CmdKickUser {
				end()
			}
		}}, tcp.Credentials{ClientType: pb.ClientType_CLIENT_TYPE_ANDROID})
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Close()
		<-conn.Done()
	}()
	err = k.call(limit, "KickUser", map[string]any{"user_id": conn.UserID()}, nil)
	if err != nil {
		return err
	}
	timer := time.NewTimer(k.w.Patience / 2) // less than the row waits for this attempt
	defer timer.Stop()
	select {
	case <-kicked:
		k.ended.Add(1)
	case <-conn.Done(): // perhaps because of the fault
		k.ended.Add(1)
	case <-timer.C:
		k.stays.Add(1)
	}
	return nil
}

func (*kicks) settle(context.Context) {}

func (k *kicks) check(_ context.Context, c *Counts) error {
	c.Delivered += int(k.ended.Load())
	if n := int(k.stays.Load()); n > 0 {
		c.Lost += n
		c.example("%d connections stayed open for %v after KickUser", n, k.w.Patience/2)
	}
	return nil
}

// pushes writes to a user that has only a phone, without a connection.
type pushes struct {
	w        *World
	from     *client.Client
	to, self uint32
	row      int

	mu       sync.Mutex // guards the following fields
	waiting  map[uint64]chan error
	accepted map[string]bool
}

func openPushes(ctx context.Context, w *World) (job, error) {
	p := &pushes{w: w, waiting: map[uint64]chan error{}}
	const phone = pb.ClientType_CLIENT_TYPE_ANDROID
	conn, err := w.login(ctx, pushesTo, tcp.Options{}, tcp.Credentials{ClientType: phone})
	if err != nil {
		return nil, err
	}
	p.to = conn.UserID()
	err = client.SetDeviceToken(ctx, conn, phone, "phone")
	_ = conn.Close() // no logout, so the token stays
	if err != nil {
		return nil, err
	}
	if p.from, err = w.open(ctx, pushesFrom, p.event); err != nil {
		return nil, err
	}
	p.self = p.from.UserID()
	return p, nil
}

func (p *pushes) users() (a, b uint32) { return p.self, p.to }

func (p *pushes) close() { _ = p.from.Close() }

// event ends the wait of a text for its ack.
func (p *pushes) event(e client.Event) {
	var id uint64
	var err error
	switch e := e.(type) {
	case client.Acked:
		id = e.ID
	case client.SendFailed:
		id, err = e.ID, e.Err
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if done := p.waiting[id]; done != nil {
		done <- err
		delete(p.waiting, id)
	}
}

func (p *pushes) begin(row int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.row, p.accepted = row, map[string]bool{}
}

func (p *pushes) prefix() string { return fmt.Sprintf("push %d ", p.row) }

func (p *pushes) try(ctx context.Context, n, attempt int) error {
	text := fmt.Sprintf("%s%d %d", p.prefix(), n, attempt)
	done := make(chan error, 1)
	p.mu.Lock()
	id, err := p.from.Send(client.Peer{ID: p.to}, text)
	if err == nil {
		p.waiting[id] = done
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted[text] = true
	return nil
}

// pushLimit is how long the last pushes are waited for.
const pushLimit = time.Second

// settle waits for the last push. Those of texts that were sent while no push server was
// connected do not come.
func (p *pushes) settle(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	p.mu.Lock()
	all := len(p.accepted)
	p.mu.Unlock()
	until(limit, func() bool { return p.progress() == all })
}

// progress returns the number of accepted texts that were pushed.
func (p *pushes) progress() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for text := range p.accepted {
		if p.w.Pushes(text) > 0 {
			n++
		}
	}
	return n
}

func (p *pushes) check(ctx context.Context, c *Counts) error {
	stored, err := p.w.textsOf(ctx, p.self, p.to, p.prefix())
	if err != nil {
		return err
	}
	came := map[string]int{}
	for text := range stored {
		came[text] = p.w.Pushes(text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for text := range p.accepted {
		if len(stored[text]) == 0 {
			c.Lost++
			c.example("%q was acked, and is in no table", text)
		}
	}
	checkTimes(c, stored, came)
	return nil
}
