package blob

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"teamtalk/core/im"
)

// S3Options identify a bucket.
type S3Options struct {
	Endpoint             string // host, or host:port
	Secure               bool   // TLS
	Region               string // empty: the server is asked for it
	Bucket               string // must exist
	Prefix               string // precedes every name, without slashes at its ends; empty: none
	AccessKey, SecretKey string
	// Transport sends the requests. nil: the library's.
	Transport http.RoundTripper
}

// S3 is a Store in a bucket of S3, or of a server that speaks its protocol.
type S3 struct {
	client *minio.Client
	o      S3Options
}

var _ Store = (*S3)(nil)

// partSize is the number of bytes of an upload that are buffered before they are sent:
// the smallest part that S3 accepts. Small files fit into one part. Without a size the
// library would buffer hundreds of megabytes.
const partSize = 5 << 20

// OpenS3 makes a store in a bucket. It does not connect (see Ping).
func OpenS3(o S3Options) (*S3, error) {
	c, err := minio.New(o.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: o.Secure,
		Region: o.Region, Transport: o.Transport,
	})
	if err != nil {
		return nil, im.WithKind(im.Invalid, "configure S3", err)
	}
	return &S3{client: c, o: o}, nil
}

func (s *S3) key(name string) string { return path.Join(s.o.Prefix, name) }

// Put stores a blob.
func (s *S3) Put(ctx context.Context, name string, r io.Reader, contentType string) (int64, error) {
	if err := Check(name); err != nil {
		return 0, err
	}
	r, err := some(r)
	if err != nil {
		return 0, err
	}
	in := &source{ctx: ctx, r: r}
	info, err := s.client.PutObject(ctx, s.o.Bucket, s.key(name), in, -1,
		minio.PutObjectOptions{ContentType: contentType, PartSize: partSize, NumThreads: 1})
	if in.err != nil {
		return 0, in.err // the library aborts the upload, so nothing is stored
	}
	if err != nil {
		return 0, s3Error("store blob", err)
	}
	return info.Size, nil
}

// Open opens a blob. Its bytes are requested from the server as they are read.
func (s *S3) Open(ctx context.Context, name string) (*Blob, error) {
	if err := Check(name); err != nil {
		return nil, err
	}
	o, err := s.client.GetObject(ctx, s.o.Bucket, s.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Error("open blob", err)
	}
	info, err := o.Stat()
	if err != nil {
		_ = o.Close()
		return nil, s3Error("open blob", err)
	}
	return &Blob{ReadSeekCloser: o, Size: info.Size, Modified: info.LastModified,
		ETag: `"` + info.ETag + `"`}, nil
}

// Delete removes a blob.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := Check(name); err != nil {
		return err
	}
	if err := s.client.RemoveObject(ctx, s.o.Bucket, s.key(name),
		minio.RemoveObjectOptions{}); err != nil {
		return s3Error("delete blob", err)
	}
	return s.Unmark(ctx, name)
}

// pingTimeout bounds a request for the bucket's state.
const pingTimeout = 5 * time.Second

// Ping reports whether the bucket answers.
func (s *S3) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	there, err := s.client.BucketExists(ctx, s.o.Bucket)
	if err == nil && !there {
		return im.Errorf(im.Unavailable, "the S3 bucket %q does not exist", s.o.Bucket)
	}
	return s3Error("ask for the bucket", err)
}

func s3Error(what string, err error) error {
	var r minio.ErrorResponse
	if errors.As(err, &r) && (r.StatusCode == http.StatusNotFound || r.Code == minio.NoSuchKey) {
		return im.WithKind(im.NotFound, what, err)
	}
	return im.WithKind(im.Unavailable, what, err)
}
