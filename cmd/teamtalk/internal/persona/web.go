package persona

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	_ "image/jpeg" // formats of pictures
	_ "image/png"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"time"
)

// address is what login_server answered.
type address struct {
	Code       int    `json:"code"`
	PriorIP    string `json:"priorIP"`
	Port       string `json:"port"` // a string: clients parse it as one
	MSFS       string `json:"msfsPrior"`
	MSFSBackup string `json:"msfsBackup"`
}

// httpClient holds no connections open.
var httpClient = &http.Client{Timeout: dialTimeout,
	Transport: &http.Transport{DisableKeepAlives: true}}

// maxHTTP bounds an answer, in bytes.
const maxHTTP = 16 << 20

// address returns where the message server is: known, or asked of login_server.
func (c *Client) address() (string, error) {
	c.mu.Lock()
	known, first := c.found, c.found.Port == ""
	ask := first || c.row.AskServer ||
		c.row.AskAfter > 0 && !c.failing.IsZero() &&
			time.Since(c.failing) >= c.scaled(c.row.AskAfter)
	c.mu.Unlock()
	if ask {
		body, err := c.fetchHTTP(strings.TrimSuffix(c.opt.Server, "/")+"/msg_server", true)
		if err != nil {
			return "", err
		}
		known = address{}
		if err := json.Unmarshal(body, &known); err != nil || known.Code != 0 {
			return "", fmt.Errorf("persona: login_server answered %q: %w", body, err)
		}
		c.mu.Lock()
		c.found = known
		c.mu.Unlock()
		if first && c.opt.Addr != "" {
			return c.placed()
		}
	}
	return net.JoinHostPort(known.PriorIP, known.Port), nil
}

// placed replaces the first address by that of Options.
func (c *Client) placed() (string, error) {
	host, port, err := net.SplitHostPort(c.opt.Addr)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found.PriorIP, c.found.Port = host, port
	return c.opt.Addr, nil
}

// fetchHTTP gets a URL. An answer of the wrong type is a fault where the persona cannot read it.
func (c *Client) fetchHTTP(url string, parsed bool) ([]byte, error) {
	rsp, err := httpClient.Get(url)
	if err != nil {
		return nil, err
	}
	return c.readHTTP(url, rsp, parsed)
}

func (c *Client) readHTTP(url string, rsp *http.Response, parsed bool) ([]byte, error) {
	defer rsp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(rsp.Body, maxHTTP))
	if err != nil {
		return nil, err
	}
	if rsp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("persona: %s: status %d", url, rsp.StatusCode)
	}
	kind := rsp.Header.Get("Content-Type")
	if parsed && c.row.NeedsHTML && !strings.HasPrefix(kind, "text/html") {
		c.mu.Lock()
		c.fault("%s is %s, and not text/html", url, kind)
		c.mu.Unlock()
		return nil, fmt.Errorf("persona: %s has the type %s", url, kind)
	}
	return body, nil
}

// Upload uploads a picture and returns the URL that the persona shows and sends.
func (c *Client) Upload(name string, picture []byte) (string, error) {
	c.mu.Lock()
	base := c.found.MSFS
	c.mu.Unlock()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("image", name)
	if err != nil {
		return "", err
	}
	if _, err := part.Write(picture); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	url := base + c.row.UploadPath
	rsp, err := httpClient.Post(url, w.FormDataContentType(), &form)
	if err != nil {
		return "", fmt.Errorf("persona: upload: %w", err)
	}
	body, err := c.readHTTP(url, rsp, true)
	if err != nil {
		return "", fmt.Errorf("persona: upload: %w", err)
	}
	var stored struct {
		Code int    `json:"error_code"`
		Path string `json:"path"`
		URL  string `json:"url"`
	}
	if err := json.Unmarshal(body, &stored); err != nil || stored.Code != 0 {
		return "", fmt.Errorf("persona: upload answered %q: %w", body, err)
	}
	if c.row.PicturePath {
		return base + stored.Path, nil
	}
	return stored.URL, nil
}

// Picture fetches a picture of a message and returns its bytes.
func (c *Client) Picture(url string) ([]byte, error) { return c.fetchHTTP(url, false) }

// Avatar fetches an avatar in each form that the persona uses and checks that each is a picture.
func (c *Client) Avatar(url string) error {
	for _, form := range c.row.Avatars {
		body, err := c.fetchHTTP(url+form, false)
		if err != nil {
			return err
		}
		if _, _, err := image.Decode(bytes.NewReader(body)); err != nil {
			return fmt.Errorf("persona: %s: %w", url+form, err)
		}
	}
	return nil
}
