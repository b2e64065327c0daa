package services

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"sync"

	"teamtalk/core/im"
)

// uploadSize is the size of a small file.
const uploadSize = 50_000

// uploads uploads small files.
type uploads struct {
	w      *World
	url    string
	client *http.Client
	row    int

	mu       sync.Mutex
	accepted map[string]string // name by the URL that was answered
}

func openUploads(_ context.Context, w *World) (job, error) {
	return &uploads{w: w, url: "http://" + w.Uploads + "/upload/",
		client: &http.Client{Timeout: callLimit,
			Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

func (*uploads) close() {}

func (u *uploads) begin(row int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.row, u.accepted = row, map[string]string{}
}

func (u *uploads) try(ctx context.Context, n, attempt int) error {
	name := fmt.Sprintf("up-%d-%d-%d.bin", u.row, n, attempt)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		return err
	}
	_, err = part.Write(contentOf(name, uploadSize))
	if err = errors.Join(err, form.Close()); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	rsp, err := u.client.Do(req)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	var answer struct {
		Code int    `json:"error_code"`
		Text string `json:"error_msg"`
		URL  string `json:"url"`
	}
	if err := json.NewDecoder(rsp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Code != 0 {
		return im.Errorf(im.Unavailable, "upload: error_code %d, %s", answer.Code, answer.Text)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if other := u.accepted[answer.URL]; other != "" {
		return im.Errorf(im.Internal, "%s has the URL of %s, %s", name, other, answer.URL)
	}
	u.accepted[answer.URL] = name
	return nil
}

func (*uploads) settle(context.Context) {}

func (u *uploads) check(ctx context.Context, c *Counts) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for url, name := range u.accepted {
		got, err := u.get(ctx, url)
		switch {
		case err != nil:
			c.Lost++
			c.example("%s of %s: %v", url, name, err)
		case !bytes.Equal(got, contentOf(name, uploadSize)):
			c.Other++
			c.example("%s of %s has another content, of %d bytes", url, name, len(got))
		default:
			c.Delivered++
		}
	}
	return nil
}

// get fetches a small file. It tries again while the server does not answer.
func (u *uploads) get(ctx context.Context, url string) (b []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, u.w.Patience)
	defer cancel()
	for {
		b, err = u.getOnce(ctx, url)
		if err == nil || im.KindOf(err) == im.NotFound || ctx.Err() != nil {
			return b, err
		}
		sleep(ctx, pauseAfter)
	}
}

// getOnce makes one attempt of get.
func (u *uploads) getOnce(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	rsp, err := u.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	switch rsp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, im.Errorf(im.NotFound, "status 404")
	default:
		return nil, im.Errorf(im.Unavailable, "status %d", rsp.StatusCode)
	}
	return io.ReadAll(rsp.Body)
}
