package file_test

import (
	"io"
	"net"
	"testing"

	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// benchSize is the length of the file in the benchmarks, in bytes.
const benchSize = 256 << 20

// BenchmarkUpload, BenchmarkDownload and BenchmarkRelay move a file of 256 MiB. Compare
// them with BenchmarkCopy, which sends as many bytes through a plain connection.
func BenchmarkUpload(b *testing.B) {
	h := open(b, file.Options{})
	content := make([]byte, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		id := h.task(1, 2, benchSize, offline)
		if st, err := h.in(1, id, uploader).serve(id, 1, content,
			benchSize+1); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
			b.Fatal(st, err)
		}
		b.StopTimer()
		if err := h.spool.Delete(id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkDownload downloads with eight segments in flight.
func BenchmarkDownload(b *testing.B) {
	h := open(b, file.Options{})
	id := h.task(1, 2, benchSize, offline)
	if st, err := h.in(1, id, uploader).serve(id, 1, make([]byte, benchSize),
		benchSize+1); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		b.Fatal(st, err)
	}
	b.SetBytes(benchSize)
	for b.Loop() {
		h.in(2, id, downloader).drain(b, id, offline)
	}
}

// BenchmarkRelay relays with eight segments in flight, between clients on one event loop
// and on two.
func BenchmarkRelay(b *testing.B) {
	b.Run("loops=1", func(b *testing.B) { benchRelay(b, 1) })
	b.Run("loops=2", func(b *testing.B) { benchRelay(b, 2) })
}

func benchRelay(b *testing.B, loops int) {
	h := openOn(b, file.Options{}, loops)
	content := make([]byte, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		id := h.task(1, 2, benchSize, online)
		from, to := h.in(1, id, sender), h.in(2, id, receiver)
		next[*pb.IMFileState](to)
		end := make(chan error, 1)
		go func() {
			_, err := from.serve(id, 1, content, benchSize+1)
			end <- err
		}()
		to.drain(b, id, online)
		to.send(3, state(id, 2, pb.ClientFileState_CLIENT_FILE_DONE))
		if err := <-end; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy copies the same number of bytes through a plain connection.
func BenchmarkCopy(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetBytes(benchSize)
	piece := make([]byte, file.Segment)
	for b.Loop() {
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			for range benchSize / file.Segment {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, c,
			make([]byte, file.Segment)); n != benchSize || err != nil {
			b.Fatal(n, err)
		}
		c.Close()
	}
}

// drain pulls a whole file and discards it.
func (p *peer) drain(b *testing.B, id string, mode pb.TransferFileType) {
	asked := 0
	for got := 0; got < benchSize; {
		for asked < benchSize && asked < got+8*file.Segment {
			p.send(1, pullReq(id, 2, mode, asked, file.Segment))
			asked += file.Segment
		}
		got += len(next[*pb.IMFilePullDataRsp](p).GetFileData())
	}
}
