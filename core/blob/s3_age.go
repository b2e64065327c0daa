package blob

import (
	"bytes"
	"context"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"teamtalk/core/im"
)

var _ Aged = (*S3)(nil)

// Mark records that a blob was read. A mark is an object of one byte, and its time is that of
// the S3 server: the blob's own time cannot change without a copy of the blob.
func (s *S3) Mark(ctx context.Context, name string, _ time.Time) error {
	if err := Check(name); err != nil {
		return err
	}
	return s.small(ctx, "mark blob", name+markEnd, []byte{'1'})
}

// small stores a small object.
func (s *S3) small(ctx context.Context, what, name string, data []byte) error {
	_, err := s.client.PutObject(ctx, s.o.Bucket, s.key(name), bytes.NewReader(data),
		int64(len(data)), minio.PutObjectOptions{ContentType: "application/octet-stream"})
	return s3Error(what, err)
}

// Unmark removes the mark of a blob.
func (s *S3) Unmark(ctx context.Context, name string) error {
	if err := Check(name); err != nil {
		return err
	}
	return s3Error("remove the mark of a blob", s.client.RemoveObject(ctx, s.o.Bucket,
		s.key(name+markEnd), minio.RemoveObjectOptions{}))
}

// Age returns the age of a blob.
func (s *S3) Age(ctx context.Context, name string) (Age, error) {
	if err := Check(name); err != nil {
		return Age{}, err
	}
	info, err := s.client.StatObject(ctx, s.o.Bucket, s.key(name), minio.StatObjectOptions{})
	if err != nil {
		return Age{}, s3Error("look for the blob", err)
	}
	a := Age{Name: name, Size: info.Size, Stored: info.LastModified}
	mark, err := s.client.StatObject(ctx, s.o.Bucket, s.key(name+markEnd),
		minio.StatObjectOptions{})
	switch err = s3Error("look for the mark of a blob", err); {
	case err == nil:
		a.Read = mark.LastModified
	case im.KindOf(err) != im.NotFound:
		return Age{}, err
	}
	return a, nil
}

// Ages visits the blobs in a folder, with one request for 1,000 objects.
func (s *S3) Ages(ctx context.Context, folder, after string, visit func(Age) error) error {
	if err := Check(folder); err != nil {
		return err
	}
	opt := minio.ListObjectsOptions{Prefix: s.key(folder) + "/", Recursive: true}
	if after != "" {
		opt.StartAfter = s.key(after + markEnd)
	}
	ctx, cancel := context.WithCancel(ctx) // ends the requests of a list that is broken off
	defer cancel()
	pairs := &pairing{visit: visit}
	for o := range s.client.ListObjectsIter(ctx, s.o.Bucket, opt) {
		if o.Err != nil {
			return s3Error("list the blobs", o.Err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(o.Key, s.o.Prefix), "/")
		if err := pairs.entry(name, o.Size, o.LastModified); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return pairs.end()
}

// Note returns the note of the bucket.
func (s *S3) Note(ctx context.Context) ([]byte, error) {
	o, err := s.client.GetObject(ctx, s.o.Bucket, s.key(noteName), minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Error("open the note of the bucket", err)
	}
	defer o.Close()
	note, err := io.ReadAll(io.LimitReader(o, maxNote))
	if err = s3Error("read the note of the bucket", err); im.KindOf(err) == im.NotFound {
		return nil, nil
	}
	return note, err
}

// SetNote replaces the note of the bucket.
func (s *S3) SetNote(ctx context.Context, note []byte) error {
	return s.small(ctx, "store the note of the bucket", noteName, note)
}
