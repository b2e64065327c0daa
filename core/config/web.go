package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Web is the section web.
type Web struct {
	Listen         string   `toml:"listen" default:"off" form:"listen"`
	MaxConnections int      `toml:"max_connections" default:"10000" min:"1" max:"10000000"`
	WebSocket      string   `toml:"websocket" default:"" form:"websocket"`
	HideTextKey    bool     `toml:"hide_text_key" default:"false"`
	Msg            []string `toml:"msg" default:"" form:"sockets"`
	MsgCA          string   `toml:"msg_ca" default:""`
	File           []string `toml:"file" default:"" form:"sockets"`
	MSFS           string   `toml:"msfs" default:"" form:"url"`
	Register       string   `toml:"register" default:"" form:"url"`
}

// demoWeb is the address of the page in a demo.
const demoWeb = "127.0.0.1:8800"

// ServesWeb reports whether this process serves the chat page.
func (c *Config) ServesWeb() bool { return c.Runs("web") && c.Web.Listen != off }

// checkWebSocketURL refuses what a page cannot connect to.
func checkWebSocketURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(s, " ;,'\"") {
		return errors.New("want a URL such as wss://chat.example.com:8001/")
	}
	return nil
}

// MayCarry returns an error for the address of a server to which no connection for a page may be
// opened: it would leave this machine without TLS, which no setting allows.
func (c *Config) MayCarry(addr string) error {
	p := &c.LinkTLS
	if c.Web.MsgCA != "" || p.PlaintextBeyondLoopback || p.CPPPlaintext == "dial" ||
		onLoopback(addr) {
		return nil
	}
	return fmt.Errorf("the connections to %s would leave this machine without TLS: set "+
		"web.msg_ca, or link_tls.plaintext_beyond_loopback in a network that only servers "+
		"reach", addr)
}

// checkWeb reports what keeps the chat page from working.
func (c *Config) checkWeb(wrong func(key, format string, args ...any)) {
	if !c.Runs("web") {
		return
	}
	if c.Web.Listen == off {
		if len(c.Roles) == 1 {
			wrong("web.listen", "needed: this process runs web alone, so say where browsers "+
				"find the page, such as :8800")
		}
		return
	}
	c.need(wrong, "web", "msg", c.Web.Msg)
	for _, addr := range slices.Concat(c.Web.Msg, c.Web.File) {
		if err := c.MayCarry(addr); err != nil {
			wrong("web.msg_ca", "needed: %v", err)
			break
		}
	}
	if c.Web.Msg != nil && c.Runs("msg") {
		wrong("web.msg", "not used, because msg runs in this process: leave it out")
	}
}
