//go:build !unix

package filelock

import (
	"context"
	"os"
	"time"
)

func wait(context.Context, *os.File, time.Duration) error { return nil }
