package files

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
	"time"

	"teamtalk/core/im"
)

// HTTPOptions sets up an HTTP. Zero values mean the defaults.
type HTTPOptions struct {
	// URL is where files are posted to, http or https. Required.
	URL string
	// Timeout is how long one file may take, connecting included. Default 5 s.
	Timeout time.Duration
	// MaxSize is the biggest file, in bytes. Default DefaultMaxSize.
	MaxSize int
	// Conns is how many connections there are to a server at most; who needs one more waits. Default 16.
	Conns int
}

// HTTP keeps files on the small file server: POST of a form with the file, GET of the URL that the answer names.
type HTTP struct {
	base    *url.URL
	timeout time.Duration
	max     int
	client  *http.Client
}

var _ Files = (*HTTP)(nil)

// answerLimit is the longest answer to a POST that is read, in bytes.
const answerLimit = 64 << 10

// NewHTTP makes an HTTP: Invalid when the URL is none. It does not connect yet. Close it.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "URL of the small file server", err)
	}
	if !web(base) {
		return nil, im.Errorf(im.Invalid, "URL of the small file server is not http://host or https://host")
	}
	if base.Path == "" {
		base.Path = "/"
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Conns <= 0 {
		o.Conns = 16
	}
	return &HTTP{base: base, timeout: o.Timeout, max: o.MaxSize, client: &http.Client{
		Transport: &http.Transport{ // without a proxy: it is a server of this system
			DialContext:     (&net.Dialer{Timeout: o.Timeout}).DialContext,
			MaxConnsPerHost: o.Conns, MaxIdleConnsPerHost: o.Conns, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: o.Timeout, ResponseHeaderTimeout: o.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// a status as any other: not 200
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}, nil
}

func web(u *url.URL) bool { return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" }

// Put posts data, see Files. How safely it is kept is the server's matter.
func (h *HTTP) Put(ctx context.Context, name string, data []byte) (string, error) {
	if len(data) > h.max {
		return "", tooBig(int64(len(data)), h.max)
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
		return "", fmt.Errorf("form for a file: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base.String(), &body)
	if err != nil {
		return "", fmt.Errorf("request for a file: %w", err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	answer, err := h.do(req, answerLimit)
	if err != nil {
		return "", err
	}
	return h.parse(answer)
}

// answer is what the small file server says to a POST.
type answer struct {
	Code int    `json:"error_code"`
	Msg  string `json:"error_msg"`
	Path string `json:"path"`
	URL  string `json:"url"`
}

// parse finds the file's URL in the answer to a POST. A server that does not know its own name tells only a path.
func (h *HTTP) parse(data []byte) (string, error) {
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return "", im.WithKind(im.Unavailable, "answer of the small file server", err)
	}
	if a.Code != 0 {
		return "", im.Errorf(im.Unavailable,
			"small file server refused the file with error %d %.100q", a.Code, a.Msg)
	}
	if a.URL == "" {
		a.URL = a.Path
	}
	if a.URL == "" {
		return "", im.Errorf(im.Unavailable, "small file server did not say where the file is")
	}
	u, err := h.resolve(a.URL)
	if err != nil {
		return "", im.WithKind(im.Unavailable, "small file server said where the file is", err)
	}
	return u.String(), nil
}

// resolve makes a whole URL of one that may lack the server.
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

// Get returns the file at u, see Files.
func (h *HTTP) Get(ctx context.Context, u string) ([]byte, error) {
	whole, err := h.resolve(u)
	if err != nil {
		return nil, im.WithKind(im.NotFound, "URL of a file", err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, whole.String(), nil)
	if err != nil {
		return nil, im.WithKind(im.NotFound, "URL of a file", err)
	}
	return h.do(req, h.max)
}

// do sends a request and returns the body of its answer, of at most limit bytes.
func (h *HTTP) do(req *http.Request, limit int) ([]byte, error) {
	rsp, err := h.client.Do(req)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "small file server", err)
	}
	defer rsp.Body.Close()
	switch {
	case rsp.StatusCode == http.StatusNotFound || rsp.StatusCode == http.StatusGone:
		return nil, im.Errorf(im.NotFound, "small file server answered %s", rsp.Status)
	case rsp.StatusCode != http.StatusOK:
		return nil, im.Errorf(im.Unavailable, "small file server answered %s", rsp.Status)
	case rsp.ContentLength > int64(limit):
		return nil, tooBig(rsp.ContentLength, limit)
	}
	data, err := io.ReadAll(io.LimitReader(rsp.Body, int64(limit)+1))
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "small file server", err)
	}
	if len(data) > limit {
		return nil, tooBig(int64(len(data)), limit)
	}
	return data, nil
}

// Close ends the connections that nobody uses.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}
