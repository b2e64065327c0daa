package sound

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"path"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/opt"
	"teamtalk/core/ticket"
)

// maxConns bounds the connections to one server. A transfer that needs one more waits.
const maxConns = 16

// Header is the HTTP header of an upload with HTTPOptions.Delivered.
const Header = "X-TeamTalk-Delivered"

// HTTPOptions configure an HTTP. All fields up to MaxSize are required.
type HTTPOptions struct {
	// URL is the address to which files are posted, http or https.
	URL string
	// Timeout bounds the transfer of one file, including the connect.
	Timeout time.Duration
	// MaxSize is the largest file, in bytes.
	MaxSize int
	// Client makes the requests. nil: a client of its own, without a proxy, since the server
	// is part of this system.
	Client *http.Client
	// Ticket returns the ticket for an upload of size bytes, see package ticket. nil: uploads
	// have none.
	Ticket func(size int) string
	// Delivered tells the server that receivers get the files without a download, so that it
	// does not take them for files that nobody needs. Sounds are sent with their messages.
	Delivered bool
}

// HTTP stores sounds on a small file server: a POST of a form with the file, and a GET of
// the URL in the answer.
type HTTP struct {
	base    *url.URL
	timeout time.Duration
	max     int
	ticket  func(size int) string

	delivered bool

	client http.Client
}

var _ Store = (*HTTP)(nil)

// answerLimit is the longest answer to a POST, in bytes.
const answerLimit = 64 << 10

// NewHTTP makes an HTTP. It does not connect yet. The error is of kind Invalid for a bad
// URL. The caller must Close it.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "parse the small file server's URL", err)
	}
	if !web(base) {
		return nil, im.Errorf(im.Invalid,
			"the small file server's URL %q is not http://host or https://host", o.URL)
	}
	if base.Path == "" {
		base.Path = "/"
	}
	opt.Require("sound.Timeout", o.Timeout)
	opt.Require("sound.MaxSize", o.MaxSize)
	h := &HTTP{base: base, timeout: o.Timeout, max: o.MaxSize, ticket: o.Ticket,
		delivered: o.Delivered}
	if o.Client != nil {
		h.client = *o.Client
	} else {
		h.client.Transport = &http.Transport{
			DialContext:     (&net.Dialer{Timeout: o.Timeout}).DialContext,
			MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: o.Timeout, ResponseHeaderTimeout: o.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	// A redirect is an error like any status except 200.
	h.client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	return h, nil
}

func web(u *url.URL) bool { return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" }

// Put posts data, see Store. The server decides how safely it stores data.
func (h *HTTP) Put(ctx context.Context, name string, data []byte) (string, error) {
	if len(data) > h.max {
		return "", tooBig(int64(len(data)), int64(h.max))
	}
	var body bytes.Buffer
	body.Grow(len(data) + 512)
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	if err == nil {
		_, err = part.Write(data)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil { // a buffer does not fail
		return "", fmt.Errorf("encode the form: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base.String(), &body)
	if err != nil {
		return "", fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	if h.delivered {
		req.Header.Set(Header, "1")
	}
	if h.ticket != nil {
		req.Header.Set(ticket.Header, h.ticket(len(data)))
	}
	answer, err := h.do(req, answerLimit)
	if err != nil {
		return "", err
	}
	return h.parse(answer)
}

// answer is the body of the small file server's answer to a POST.
type answer struct {
	Code int    `json:"error_code"`
	Msg  string `json:"error_msg"`
	Path string `json:"path"`
	URL  string `json:"url"`
}

// parse returns the file's URL from the answer to a POST. A server that does not know its
// own name answers with a path only.
func (h *HTTP) parse(data []byte) (string, error) {
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return "", im.WithKind(im.Unavailable, "decode the small file server's answer", err)
	}
	if a.Code != 0 {
		return "", im.Errorf(im.Unavailable,
			"the small file server refused the file with error %d %.100q", a.Code, a.Msg)
	}
	if a.URL == "" {
		a.URL = a.Path
	}
	if a.URL == "" {
		return "", im.Errorf(im.Unavailable, "the small file server's answer has no URL")
	}
	u, err := h.resolve(a.URL)
	if err != nil {
		return "", im.WithKind(im.Unavailable, "parse the URL in the server's answer",
			err)
	}
	return u.String(), nil
}

// resolve completes a URL that may lack the server.
func (h *HTTP) resolve(ref string) (*url.URL, error) {
	u, err := h.base.Parse(ref)
	if err != nil {
		return nil, err
	}
	if !web(u) {
		return nil, errors.New("not an http URL")
	}
	return u, nil
}

// Get returns the sound at u, see Store.
func (h *HTTP) Get(ctx context.Context, u string) ([]byte, error) {
	whole, err := h.resolve(u)
	if err != nil {
		return nil, im.WithKind(im.NotFound, "parse a sound's URL", err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, whole.String(), nil)
	if err != nil {
		return nil, im.WithKind(im.NotFound, "parse a sound's URL", err)
	}
	return h.do(req, int64(h.max))
}

// Use looks at a file of the server, so that it counts as read. name is its path on the server.
// The error is of kind NotFound when it does not exist.
func (h *HTTP) Use(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	below := *h.base
	below.Path = path.Join("/", below.Path, name) // a proxy may serve the files below a path
	err := h.head(ctx, &below)
	if root := "/" + name; im.KindOf(err) == im.NotFound && below.Path != root {
		below.Path = root // the path of the URL may be for uploads only
		err = h.head(ctx, &below)
	}
	return err
}

func (h *HTTP) head(ctx context.Context, u *url.URL) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return im.WithKind(im.NotFound, "make a file's URL", err)
	}
	_, err = h.do(req, 1<<40) // the length is that of the file, which is not sent
	return err
}

// do sends a request and returns the answer's body. The error is of kind Invalid when the
// body is longer than limit bytes.
func (h *HTTP) do(req *http.Request, limit int64) ([]byte, error) {
	rsp, err := h.client.Do(req)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "ask the small file server", err)
	}
	defer rsp.Body.Close()
	switch {
	case rsp.StatusCode == http.StatusNotFound || rsp.StatusCode == http.StatusGone:
		return nil, im.Errorf(im.NotFound, "the small file server answered %s", rsp.Status)
	case rsp.StatusCode != http.StatusOK:
		return nil, im.Errorf(im.Unavailable, "the small file server answered %s", rsp.Status)
	case rsp.ContentLength > limit:
		return nil, tooBig(rsp.ContentLength, limit)
	}
	data, err := io.ReadAll(io.LimitReader(rsp.Body, limit+1))
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "read the small file server's answer", err)
	}
	if n := int64(len(data)); n > limit {
		return nil, tooBig(n, limit)
	}
	return data, nil
}

// Close closes idle connections.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}
