package snapshot

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Reseal returns a copy of a stream of snapshots with its checksums made right as far as the stream
// makes sense, for tests that change what is in it: else no change of theirs would get past the first
// checksum.
func Reseal(stream []byte) []byte {
	b := bytes.Clone(stream)
	for at := 0; len(b)-at > len(magic)+3; {
		hash := xxhash.New()
		head := len(magic) + 3 + int(b[at+len(magic)+2])
		if at+head > len(b) {
			return b
		}
		hash.Write(b[at : at+head])
		for at += head; ; {
			if len(b)-at < 4 {
				return b
			}
			n := int(binary.LittleEndian.Uint32(b[at:]))
			if n > FrameSize || len(b)-at < 4+n+sumSize {
				return b
			}
			hash.Write(b[at : at+4+n])
			at += 4 + n
			binary.LittleEndian.PutUint64(b[at:], hash.Sum64())
			if at += sumSize; n == 0 {
				break
			}
		}
	}
	return b
}

// Written returns what a part of a snapshot writes, for tests of that part alone. It panics where writing fails.
func Written(archive func(*Archive)) []byte {
	var b bytes.Buffer
	a := NewWriter(&b, "part", 1)
	archive(a)
	if err := a.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Read reads what Written has returned.
func Read(b []byte, archive func(*Archive)) error {
	a := NewReader(bytes.NewReader(b), "part", 1)
	archive(a)
	return a.Close()
}

// Forge returns a copy of a stream of snapshots with other bytes from a place on, and checksums that fit.
func Forge(stream []byte, at int, with []byte) []byte {
	b := bytes.Clone(stream)
	copy(b[min(at, len(b)):], with)
	return Reseal(b)
}

// Forgeries gives a fuzz target that takes arguments of Forge such to begin with, all over a stream.
func Forgeries(f interface{ Add(...any) }, stream []byte) {
	for at := 0; at < len(stream); at += max(1, len(stream)/64) {
		f.Add(uint16(at), []byte{stream[at] ^ 1})
		f.Add(uint16(at), []byte{0xff, 0xff, 0x7f})
	}
}

// Damaged calls each with a stream for every byte of it that is another one, and checksums that fit.
func Damaged(stream []byte, each func(at int, b []byte)) {
	for i := range stream {
		for _, flip := range []byte{1, 0x40, 0xff} {
			each(i, Forge(stream, i, []byte{stream[i] ^ flip}))
		}
	}
}
