package dbproxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/im"
	"teamtalk/core/sound"
	"teamtalk/proto/pb"
)

// durationLen is the length of what stands before the sound in the body of an audio message: its duration in seconds, big-endian.
const durationLen = 4

// audioText is what stands for a sound in lists of conversations, as a text: the first clients show it as it is.
const audioText = "[语音]"

// soundsAtOnce is how many files one batch, or one answer, puts or gets at the same time.
const soundsAtOnce = 8

// soundCache is how many bytes of sounds are remembered. A page of history that all who just heard of it ask for is read once.
const soundCache = 16 << 20

// isAudio reports whether messages of type t carry sound.
func isAudio(t pb.MsgType) bool {
	return t == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || t == pb.MsgType_MSG_TYPE_GROUP_AUDIO
}

// Where files are kept may be there and not answer. A batch with a sound then takes its part of the time for nothing, and the texts beside it wait. So
// after a sound that was not kept in soundSlow none is tried for soundRest: audio messages fail at once.
const (
	soundSlow = 500 * time.Millisecond
	soundRest = 10 * time.Second
)

// sounds keeps the sound of audio messages in files: what the store keeps of a message is where its sound is.
type sounds struct {
	files   sound.Store // nil: audio messages are refused
	clock   func() time.Time
	metrics *metrics
	rests   atomic.Pointer[time.Time] // until then; nil: not

	mu    sync.Mutex // held for one look-up
	cache *simplelru.LRU[string, []byte]
	bytes int // in cache
}

func newSounds(f sound.Store, clock func() time.Time, m *metrics) *sounds {
	s := &sounds{files: f, clock: clock, metrics: m}
	// More entries than soundCache has room for, were all sounds of 1 KiB. The only error is a size that is not positive.
	s.cache, _ = simplelru.NewLRU(soundCache>>10, func(_ string, data []byte) { s.bytes -= len(data) })
	return s
}

// put keeps the sound of an audio message's body.
func (s *sounds) put(ctx context.Context, body []byte) (*im.Audio, error) {
	if until := s.rests.Load(); until != nil && s.clock().Before(*until) {
		s.metrics.soundFailures.WithLabelValues("put").Inc()
		return nil, im.Errorf(im.Unavailable, "sounds could not be kept a moment ago")
	}
	sound := body[durationLen:]
	began := time.Now()
	url, err := s.files.Put(ctx, "sound.audio", sound)
	took := time.Since(began)
	s.metrics.soundSeconds.WithLabelValues("put").Observe(took.Seconds())
	if err != nil {
		if took >= soundSlow {
			s.rests.Store(new(s.clock().Add(soundRest)))
		}
		s.metrics.soundFailures.WithLabelValues("put").Inc()
		return nil, err
	}
	s.remember(url, bytes.Clone(sound)) // the message's memory is its caller's again once it is answered
	return &im.Audio{Path: url, Size: uint32(len(sound)), Duration: binary.BigEndian.Uint32(body)}, nil
}

// body returns the body of an audio message: duration and sound.
func (s *sounds) body(ctx context.Context, a *im.Audio) ([]byte, error) {
	sound, ok := s.recall(a.Path)
	if !ok {
		if s.files == nil {
			return nil, im.Errorf(im.NotFound, "no sounds are kept here")
		}
		var err error
		began := time.Now()
		sound, err = s.files.Get(ctx, a.Path)
		s.metrics.soundSeconds.WithLabelValues("get").Observe(time.Since(began).Seconds())
		if err != nil {
			return nil, err
		}
		s.remember(a.Path, sound)
	}
	body := make([]byte, 0, durationLen+len(sound))
	return append(binary.BigEndian.AppendUint32(body, a.Duration), sound...), nil
}

func (s *sounds) recall(url string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.Get(url)
}

// remember keeps sound, which must not change any more, in the place of those that were not asked for longest.
func (s *sounds) remember(url string, sound []byte) {
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

// playable says why a body cannot be that of an audio message, nil when it can.
func (s *sounds) playable(body []byte) error {
	switch n := len(body) - durationLen; {
	case s.files == nil:
		return im.Errorf(im.Invalid, "audio messages are not served")
	case n <= 0:
		return im.Errorf(im.Invalid, "audio message without a sound")
	case n > im.MaxAudio:
		return im.Errorf(im.Invalid, "audio message of %d bytes, at most %d are taken", n, im.MaxAudio)
	}
	return nil
}

// putSounds keeps the sounds of a batch before its messages are stored, so that these keep their order. A message whose sound is not kept fails alone.
func (s *Server) putSounds(ctx context.Context, batch []*Pending) {
	var audio []*Pending
	for _, p := range batch {
		if p.row.Err == nil && isAudio(p.row.Type) {
			audio = append(audio, p)
		}
	}
	if len(audio) == 0 {
		return
	}
	// Half of the time: the other messages of the batch are to be stored also when the files take too long.
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout/4)
	defer cancel()
	atOnce(len(audio), func(i int) {
		row := &audio[i].row
		row.Audio, row.Err = s.sounds.put(ctx, row.Data)
		row.Data = nil
	})
}

// playBack gives the audio messages of a list their bodies again. One whose sound is gone has an empty body: the others are worth an answer.
func (s *Server) playBack(ctx context.Context, list []im.Message) {
	var audio []*im.Message
	for i := range list {
		if list[i].Audio != nil {
			audio = append(audio, &list[i])
		}
	}
	if len(audio) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout/4)
	defer cancel()
	var mu sync.Mutex
	var first error // one stands for all in the log
	atOnce(len(audio), func(i int) {
		body, err := s.sounds.body(ctx, audio[i].Audio)
		if err != nil {
			s.metrics.soundFailures.WithLabelValues("get").Inc()
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
	if held, ok := s.often.sound.Allow(s.opt.Now()); ok {
		s.log.Warn("sounds not found, messages answered without", "role", "dbproxy", "err", first, "held", held)
	}
}

// atOnce calls f with 0 … n-1, soundsAtOnce of them at the same time, and returns when all are done. A panic in one goes on in the caller.
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
