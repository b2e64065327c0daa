package persona

import (
	"bytes"
	"encoding/json"
	"errors"
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

// web calls login_server and the picture server.
type web struct {
	*device
	found   address
	failing time.Time // since when connecting fails
}

// address returns where the message server is: known, or asked of login_server.
func (w *web) address() (string, error) {
	w.mu.Lock()
	known, first := w.found, w.found.Port == ""
	ask := first || w.row.AskServer ||
		w.row.AskAfter > 0 && !w.failing.IsZero() &&
			time.Since(w.failing) >= w.scaled(w.row.AskAfter)
	w.mu.Unlock()
	if ask {
		body, err := w.fetchHTTP(strings.TrimSuffix(w.opt.Server, "/")+"/msg_server", true)
		if err != nil {
			return "", err
		}
		known = address{}
		if err := json.Unmarshal(body, &known); err != nil || known.Code != 0 {
			return "", fmt.Errorf("persona: login_server answered %q: %w", body, err)
		}
		w.mu.Lock()
		w.found = known
		w.mu.Unlock()
		if first && w.opt.Addr != "" {
			return w.placed()
		}
	}
	return net.JoinHostPort(known.PriorIP, known.Port), nil
}

// placed replaces the first address by that of Options.
func (w *web) placed() (string, error) {
	host, port, err := net.SplitHostPort(w.opt.Addr)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found.PriorIP, w.found.Port = host, port
	return w.opt.Addr, nil
}

// fetchHTTP gets a URL. An answer of the wrong type is a fault where the persona cannot read it.
func (w *web) fetchHTTP(url string, parsed bool) ([]byte, error) {
	rsp, err := httpClient.Get(url)
	if err != nil {
		return nil, err
	}
	return w.readHTTP(url, rsp, parsed)
}

func (w *web) readHTTP(url string, rsp *http.Response, parsed bool) ([]byte, error) {
	defer rsp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(rsp.Body, maxHTTP))
	if err != nil {
		return nil, err
	}
	if rsp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("persona: %s: status %d", url, rsp.StatusCode)
	}
	kind := rsp.Header.Get("Content-Type")
	if parsed && w.row.NeedsHTML && !strings.HasPrefix(kind, "text/html") {
		w.mu.Lock()
		w.fault("%s is %s, and not text/html", url, kind)
		w.mu.Unlock()
		return nil, fmt.Errorf("persona: %s has the type %s", url, kind)
	}
	return body, nil
}

// errNotSent is the error of an upload that the picture server did not store.
var errNotSent = errors.New("the picture is not sent")

// Upload uploads a picture and returns the URL that the persona shows and sends.
func (w *web) Upload(name string, picture []byte) (string, error) {
	w.mu.Lock()
	base := w.found.MSFS
	w.mu.Unlock()
	var form bytes.Buffer
	mw := multipart.NewWriter(&form)
	part, err := mw.CreateFormFile("image", name)
	if err != nil {
		return "", err
	}
	if _, err := part.Write(picture); err != nil {
		return "", err
	}
	if err := mw.Close(); err != nil {
		return "", err
	}
	url := base + w.row.UploadPath
	rsp, err := httpClient.Post(url, mw.FormDataContentType(), &form)
	if err != nil {
		return "", fmt.Errorf("persona: upload: %w", err)
	}
	body, err := w.readHTTP(url, rsp, true)
	if err != nil {
		return "", fmt.Errorf("persona: upload: %w", err)
	}
	var stored struct {
		Code int    `json:"error_code"`
		Path string `json:"path"`
		URL  string `json:"url"`
	}
	err = json.Unmarshal(body, &stored)
	if failed := stored.Code != 0; err != nil || failed && !w.row.UploadURL || stored.URL == "" {
		return "", fmt.Errorf("persona: upload answered %q: %w", body, errors.Join(errNotSent, err))
	}
	if w.row.PicturePath {
		return base + stored.Path, nil
	}
	return stored.URL, nil
}

// Picture fetches a picture of a message and returns its bytes.
func (w *web) Picture(url string) ([]byte, error) { return w.fetchHTTP(url, false) }

// Avatar fetches an avatar in each form that the persona uses and checks that each is a picture.
func (w *web) Avatar(url string) error {
	for _, form := range w.row.Avatars {
		body, err := w.fetchHTTP(url+form, false)
		if err != nil {
			return err
		}
		if _, _, err := image.Decode(bytes.NewReader(body)); err != nil {
			return fmt.Errorf("persona: %s: %w", url+form, err)
		}
	}
	return nil
}
