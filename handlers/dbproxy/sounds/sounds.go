// Package sounds stores the sounds of audio messages in files, and returns them to the
// messages that are read from the store, which contains their URLs.
package sounds

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/sound"
	"teamtalk/proto/pb"
)

// durationLen is the length of the duration at the start of an audio message's body:
// seconds, big-endian.
const durationLen = 4

// soundsAtOnce is the number of files that one batch, or one answer, writes or reads at
// the same time.
const soundsAtOnce = 8

// soundCache bounds the cached sounds, in bytes. When many clients request the same page
// of history, each sound is read once.
const soundCache = 16 << 20

// IsAudio reports whether messages of type t contain a sound.
func IsAudio(t pb.MsgType) bool {
	return t == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || t == pb.MsgType_MSG_TYPE_GROUP_AUDIO
}

// The file server may accept connections and not answer. A batch with a sound then waits
// in vain, and so do the texts in it. So after a sound that could not be stored within
// soundSlow, no sound is stored for soundRest: audio messages fail at once.
const (
	soundSlow = 500 * time.Millisecond
	soundRest = 10 * time.Second
)

// Options sets up Sounds. All fields but Files and Registerer must be set.
type Options struct {
	// Files stores the sounds. nil: audio messages are refused.
	Files sound.Store
	// Timeout bounds the duration of all sounds of a batch, or of an answer.
	Timeout    time.Duration
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Sounds stores and returns sounds. Any goroutine.
type Sounds struct {
	opt      Options
	often    obs.Often
	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
	rests    atomic.Pointer[time.Time] // sounds are refused until then; nil: they are not

	mu    sync.Mutex // held for one lookup
	cache *simplelru.LRU[string, []byte]
	bytes int // total size of cache
}

// New returns Sounds.
func New(opt Options) *Sounds {
	const prefix = "teamtalk_dbproxy_"
	s := &Sounds{opt: opt,
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "sound_seconds", Help: "Duration of storing or reading the sound of " +
				"an audio message, in seconds, by op: put, get.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"op"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "sound_failures_total", Help: "Sounds not stored (the message is then " +
				"not stored either) or not found (the message is returned without its sound), by " +
				"op: put, get."}, []string{"op"})}
	// The number of entries suffices for sounds of 1 KiB. NewLRU fails only when the size
	// is not positive.
	s.cache, _ = simplelru.NewLRU(soundCache>>10,
		func(_ string, data []byte) { s.bytes -= len(data) })
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(s.seconds, s.failures)
	}
	return s
}

// put stores the sound in an audio message's body.
func (s *Sounds) put(ctx context.Context, body []byte) (*im.Audio, error) {
	if until := s.rests.Load(); until != nil && s.opt.Now().Before(*until) {
		s.failures.WithLabelValues("put").Inc()
		return nil, im.Errorf(im.Unavailable, "storing a sound timed out less than %s ago",
			soundRest)
	}
	sound := body[durationLen:]
	began := time.Now()
	url, err := s.opt.Files.Put(ctx, "sound.audio", sound)
	took := time.Since(began)
	s.seconds.WithLabelValues("put").Observe(took.Seconds())
	if err != nil {
		if took >= soundSlow {
			s.rests.Store(new(s.opt.Now().Add(soundRest)))
		}
		s.failures.WithLabelValues("put").Inc()
		return nil, err
	}
	s.remember(url, bytes.Clone(sound)) // the caller reuses the message's memory after the answer
	return &im.Audio{Path: url, Size: uint32(len(sound)), Duration: binary.BigEndian.Uint32(body)},
		nil
}

// body returns the body of an audio message: its duration and its sound.
func (s *Sounds) body(ctx context.Context, a *im.Audio) ([]byte, error) {
	sound, ok := s.recall(a.Path)
	if !ok {
		if s.opt.Files == nil {
			return nil, im.Errorf(im.NotFound, "audio messages are turned off")
		}
		var err error
		began := time.Now()
		sound, err = s.opt.Files.Get(ctx, a.Path)
		s.seconds.WithLabelValues("get").Observe(time.Since(began).Seconds())
		if err != nil {
			return nil, err
		}
		s.remember(a.Path, sound)
	}
	body := make([]byte, 0, durationLen+len(sound))
	return append(binary.BigEndian.AppendUint32(body, a.Duration), sound...), nil
}

func (s *Sounds) recall(url string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.Get(url)
}

// remember adds sound to the cache, and evicts the sounds that were used least recently.
// The caller must not change sound afterwards.
func (s *Sounds) remember(url string, sound []byte) {
	if len(sound) > soundCache/4 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.Remove(url)
	s.bytes += len(sound)
	s.cache.Add(url, sound)
	for s.bytes > soundCache {
		s.cache.RemoveOldest()
	}
}

// Playable returns the reason why a body cannot be an audio message's; nil when it can.
func (s *Sounds) Playable(body []byte) error {
	switch n := len(body) - durationLen; {
	case s.opt.Files == nil:
		return im.Errorf(im.Invalid, "audio messages are turned off")
	case n <= 0:
		return im.Errorf(im.Invalid, "audio message without a sound")
	case n > im.MaxAudio:
		return im.Errorf(im.Invalid, "audio message with a sound of %d bytes, the limit is %d", n,
			im.MaxAudio)
	}
	return nil
}

// PutBatch stores the sounds of a batch before its messages, so that the messages keep
// their order. When a sound cannot be stored, the Err of its message is set. Messages with
// an Err, and those without a sound, stay as they are.
func (s *Sounds) PutBatch(ctx context.Context, batch []*im.Message) {
	var audio []*im.Message
	for _, m := range batch {
		if m.Err == nil && IsAudio(m.Type) {
			audio = append(audio, m)
		}
	}
	if len(audio) == 0 {
		return
	}
	// The batch has more time than that, so that its other messages can be stored when the
	// files take too long.
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	atOnce(len(audio), func(i int) {
		row := audio[i]
		row.Audio, row.Err = s.put(ctx, row.Data)
		row.Data = nil
	})
}

// PlayBack restores the bodies of the audio messages in a list. A message whose sound
// cannot be read keeps an empty body, so that the others can be returned.
func (s *Sounds) PlayBack(ctx context.Context, list []im.Message) {
	var audio []*im.Message
	for i := range list {
		if list[i].Audio != nil {
			audio = append(audio, &list[i])
		}
	}
	if len(audio) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	var mu sync.Mutex
	var first error // logged for all
	atOnce(len(audio), func(i int) {
		body, err := s.body(ctx, audio[i].Audio)
		if err != nil {
			s.failures.WithLabelValues("get").Inc()
			mu.Lock()
			first = cmp.Or(first, err)
			mu.Unlock()
			return
		}
		audio[i].Data = body
	})
	if first == nil {
		return
	}
	if held, ok := s.often.Allow(s.opt.Now()); ok {
		s.opt.Log.Warn("sounds not found, messages returned without them", "role", "dbproxy", "err",
			first, "held", held)
	}
}

// atOnce calls f with 0 … n-1, soundsAtOnce calls at the same time, and returns after the
// last call. A panic in f is repeated in the caller.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var panicked any
	next := 0
	work := func() {
		defer func() {
			if v := recover(); v != nil {
				mu.Lock()
				panicked = v
				mu.Unlock()
			}
		}()
		for {
			mu.Lock()
			i := next
			next++
			mu.Unlock()
			if i >= n {
				return
			}
			f(i)
		}
	}
	for range min(n, soundsAtOnce) {
		wg.Go(work)
	}
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
}
