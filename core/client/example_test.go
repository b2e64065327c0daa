package client_test

import (
	"context"
	"fmt"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
)

// A client that answers each text of another user with the same text.
func Example() {
	events := make(chan client.Event, 100)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Open(ctx, client.Options{
		Credentials: tcp.Credentials{User: "alice", Password: "secret"},
		Server:      "http://localhost:8080",
		OnEvent:     func(e client.Event) { events <- e },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for {
		select {
		case e := <-events:
			m, ok := e.(client.Received)
			if !ok || m.Peer.Group || m.Message.From == c.UserID() {
				continue
			}
			if text, err := c.Text(m.Message); err == nil {
				_, _ = c.Send(m.Peer, text)
				c.MarkRead(m.Peer, m.Message.ID)
			}
		case <-c.Done():
			fmt.Println(c.Err())
			return
		}
	}
}

// A request without a Client: one connection, without reconnection and events.
func Example_connection() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := tcp.Dial(ctx, "localhost:8000", tcp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	if _, err = conn.Login(ctx, tcp.Credentials{User: "alice", Password: "secret"}); err != nil {
		fmt.Println(err)
		return
	}
	unread, err := client.Unread(ctx, conn)
	fmt.Println(len(unread), err)
}
