package snapshot

import "io"

// One stream inside another.

// Nest writes or reads something that has a stream of its own, such as another snapshot: write, or
// read, is called with the stream. What read leaves of it is refused.
func (a *Archive) Nest(write func(io.Writer) error, read func(io.Reader) error) {
	if a.err != nil {
		return
	}
	if a.Writing() {
		n := nested{a}
		a.Fail(write(n))
		a.Len(0, 0)
		return
	}
	n := &nestedReader{a: a}
	if err := read(n); err != nil {
		a.Fail(err)
		return
	}
	a.Check(n.left == 0 && !n.ended && n.chunk() == io.EOF, "what it holds is longer than it should be")
}

// nested is a stream in an archive: chunks with their lengths, the last one of length 0.
type nested struct{ a *Archive }

func (n nested) Write(b []byte) (int, error) {
	for left := b; len(left) > 0 && n.a.err == nil; {
		k := min(len(left), FrameSize)
		part := left[:k]
		n.a.Bytes(&part, FrameSize)
		left = left[k:]
	}
	return len(b), n.a.err
}

type nestedReader struct {
	a     *Archive
	left  int // of the chunk
	ended bool
}

// chunk begins the next chunk.
func (n *nestedReader) chunk() error {
	if n.ended {
		return io.EOF
	}
	n.left = n.a.Len(0, FrameSize)
	if n.a.err != nil {
		return n.a.err
	}
	if n.ended = n.left == 0; n.ended {
		return io.EOF
	}
	return nil
}

func (n *nestedReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for n.left == 0 {
		if err := n.chunk(); err != nil {
			return 0, err
		}
	}
	if !n.a.more() {
		return 0, n.a.err
	}
	k := copy(b[:min(len(b), n.left)], n.a.buf)
	n.a.buf, n.left = n.a.buf[k:], n.left-k
	return k, nil
}
