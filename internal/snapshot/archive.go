package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/cespare/xxhash/v2"
)

// What can be wrong with a snapshot that is read.
var (
	ErrDamaged = errors.New("the snapshot is damaged")
	ErrVersion = errors.New("the snapshot is of a version that this program does not know")
	ErrConfig  = errors.New("the snapshot is of another configuration")
)

// FrameSize is the largest number of bytes in a frame.
const FrameSize = 64 << 10

const (
	magic     = "natplane\x00\x01"
	sumSize   = 8
	varintMax = binary.MaxVarintLen64
)

// Archive is a snapshot that is being written or read. The first thing that goes wrong is its
// error; from then on nothing is written, and what is read is zero.
type Archive struct {
	w io.Writer // nil if it is read
	r io.Reader

	buf     []byte // of the frame at hand: written so far, or not yet read
	frame   []byte // the memory of it
	hash    *xxhash.Digest
	offset  int64 // in the stream, of what comes behind the frame at hand
	ended   bool  // the last frame has been read
	section string
	version int
	err     error
}

// NewWriter begins a snapshot of a kind, a short text, in a version from 1 to 65,535. [Archive.Close]
// ends it, and tells what has gone wrong.
func NewWriter(w io.Writer, kind string, version int) *Archive {
	a := &Archive{w: w, hash: xxhash.New(), version: version, frame: make([]byte, 4, 4+FrameSize+sumSize), section: "header"}
	head := binary.LittleEndian.AppendUint16([]byte(magic), uint16(version))
	a.write(append(append(head, byte(len(kind))), kind...))
	a.buf = a.frame
	return a
}

// NewReader begins to read a snapshot of a kind, in any version up to one. It reads from r what
// belongs to the snapshot and nothing behind it.
func NewReader(r io.Reader, kind string, newest int) *Archive {
	a := &Archive{r: r, hash: xxhash.New(), section: "header"}
	head := make([]byte, len(magic)+3)
	switch {
	case !a.fill(head):
	case !bytes.Equal(head[:len(magic)-1], []byte(magic[:len(magic)-1])):
		a.Refuse("it begins with %q, which no snapshot does", head[:len(magic)])
	case head[len(magic)-1] != magic[len(magic)-1]:
		a.fail(fmt.Errorf("%w: its format has version %d", ErrVersion, head[len(magic)-1]))
	default:
		text := make([]byte, head[len(head)-1])
		if a.version = int(binary.LittleEndian.Uint16(head[len(magic):])); !a.fill(text) {
			break
		}
		if string(text) != kind {
			a.Refuse("it is of %q, and not of a %s", text, kind)
		} else if a.version < 1 || a.version > newest {
			a.fail(fmt.Errorf("%w: %s version %d, known are 1 to %d", ErrVersion, kind, a.version, newest))
		}
	}
	return a
}

// Writing reports whether a is written; else it is read.
func (a *Archive) Writing() bool { return a.w != nil }

// Version returns the version of the kind.
func (a *Archive) Version() int { return a.version }

// Err returns what has gone wrong so far.
func (a *Archive) Err() error { return a.err }

// OK reports whether nothing has gone wrong so far.
func (a *Archive) OK() bool { return a.err == nil }

// Fail makes err the error of a, unless there is one.
func (a *Archive) Fail(err error) {
	if err != nil {
		a.fail(fmt.Errorf("section %s: %w", a.section, err))
	}
}

// Refuse makes the error of a, unless there is one, that the snapshot is damaged: it has what it
// cannot have.
func (a *Archive) Refuse(format string, args ...any) {
	if a.err == nil {
		a.fail(fmt.Errorf("%w: section %s, before byte %d: %s", ErrDamaged, a.section, a.offset-int64(len(a.buf)), fmt.Sprintf(format, args...)))
	}
}

// Check is Refuse unless ok. It reports whether nothing has gone wrong so far.
func (a *Archive) Check(ok bool, format string, args ...any) bool {
	if !ok {
		a.Refuse(format, args...)
	}
	return a.err == nil
}

func (a *Archive) fail(err error) {
	if a.err == nil {
		a.err, a.buf, a.ended = err, nil, true
	}
}

// Close ends the snapshot and returns the error of a. One that is read must have been read to its
// end.
func (a *Archive) Close() error {
	if a.Writing() {
		if len(a.buf) > 4 {
			a.flush()
		}
		a.flush() // the end: an empty frame
	} else if a.err == nil {
		if a.section = "end"; len(a.buf) > 0 || !a.ended && a.next() {
			a.Refuse("there is more than belongs to it")
		}
	}
	return a.err
}

// write writes to the stream what its checksums cover.
func (a *Archive) write(b []byte) {
	a.hash.Write(b)
	a.out(b)
}

func (a *Archive) out(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	if a.offset += int64(n); err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	a.Fail(err)
}

// flush writes the frame at hand.
func (a *Archive) flush() {
	if a.err != nil {
		return
	}
	binary.LittleEndian.PutUint32(a.buf, uint32(len(a.buf)-4))
	a.hash.Write(a.buf)
	a.out(binary.LittleEndian.AppendUint64(a.buf, a.hash.Sum64()))
	a.buf = a.frame
}

// fill reads from the stream.
func (a *Archive) fill(b []byte) bool {
	n, err := io.ReadFull(a.r, b)
	a.offset += int64(n)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		a.Refuse("it ends there")
	default:
		a.Fail(err)
	}
	if a.err != nil {
		return false
	}
	a.hash.Write(b)
	return true
}

// next reads the next frame, and reports whether there is one.
func (a *Archive) next() bool {
	if a.ended {
		return false
	}
	var head [4]byte
	if !a.fill(head[:]) {
		return false
	}
	n := binary.LittleEndian.Uint32(head[:])
	if !a.Check(n <= FrameSize, "a frame of %d bytes, at most %d", n, FrameSize) {
		return false
	}
	if a.frame == nil {
		a.frame = make([]byte, FrameSize)
	}
	data := a.frame[:n]
	if !a.fill(data) {
		return false
	}
	want := a.hash.Sum64()
	var sum [sumSize]byte
	if k, err := io.ReadFull(a.r, sum[:]); err != nil {
		if a.offset += int64(k); err == io.EOF || err == io.ErrUnexpectedEOF {
			a.Refuse("it ends there")
		}
		a.Fail(err)
		return false
	}
	a.offset += sumSize
	if got := binary.LittleEndian.Uint64(sum[:]); !a.Check(got == want, "the checksum of the frame that ends there is wrong") {
		return false
	}
	a.buf, a.ended = data, n == 0
	return !a.ended
}

// room makes room for a value of n bytes in the frame that is written.
func (a *Archive) room(n int) {
	if len(a.buf)+n > 4+FrameSize {
		a.flush()
	}
}

// more sees to it that there is something to read.
func (a *Archive) more() bool {
	if len(a.buf) > 0 || a.next() {
		return true
	}
	a.Refuse("it has ended, and something is missing")
	return false
}

// uint takes a number to or from the frame.
func (a *Archive) uint(v uint64) uint64 {
	if a.w != nil {
		if a.err == nil {
			a.room(varintMax)
			a.buf = binary.AppendUvarint(a.buf, v)
		}
		return v
	}
	if len(a.buf) > 0 && a.buf[0] < 0x80 {
		v = uint64(a.buf[0])
		a.buf = a.buf[1:]
		return v
	}
	if a.err != nil || !a.more() {
		return 0
	}
	v, n := binary.Uvarint(a.buf)
	if !a.Check(n > 0, "a number that does not end") {
		return 0
	}
	a.buf = a.buf[n:]
	return v
}

// Integer is what Num takes.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Num writes or reads a number. One that is too large for its type is refused.
func Num[T Integer](a *Archive, v *T) {
	var zero T
	if zero-1 < zero { // signed
		x := int64(*v)
		u := a.uint(uint64(x)<<1 ^ uint64(x>>63))
		if a.w == nil {
			x = int64(u>>1) ^ -int64(u&1)
			if *v = T(x); int64(*v) != x {
				a.Refuse("the number %d is out of range", x)
				*v = 0
			}
		}
		return
	}
	u := a.uint(uint64(*v))
	if a.w == nil {
		if *v = T(u); uint64(*v) != u {
			a.Refuse("the number %d is out of range", u)
			*v = 0
		}
	}
}

// Nums is Num for several numbers of a type.
func Nums[T Integer](a *Archive, all ...*T) {
	for _, v := range all {
		Num(a, v)
	}
}

// Uints is Num for each number of a slice, whose length does not change, and faster for many.
func (a *Archive) Uints(all []uint64) {
	if a.w != nil || len(a.buf) < len(all)*varintMax {
		for i := range all {
			all[i] = a.uint(all[i])
		}
		return
	}
	b := a.buf // has them all, however long they are
	for i := range all {
		v, k := uint64(b[0]), 1
		if v >= 0x80 {
			if v, k = binary.Uvarint(b); k <= 0 {
				a.buf = b
				a.uint(0) // which refuses it
				clear(all[i:])
				return
			}
		}
		all[i], b = v, b[k:]
	}
	a.buf = b
}

// Array is Num for each number of a slice, whose length does not change.
func Array[T Integer](a *Archive, all []T) {
	for i := range all {
		Num(a, &all[i])
	}
}

// Same writes a number that the reader knows already, and refuses another.
func Same[T Integer](a *Archive, what string, v T) {
	was := v
	if Num(a, &v); v != was {
		a.Refuse("%s is %v, and not %v", what, v, was)
	}
}

// Bool writes or reads a bool.
func (a *Archive) Bool(v *bool) {
	n := uint64(0)
	if *v {
		n = 1
	}
	if n = a.uint(n); a.w == nil {
		a.Check(n <= 1, "the number %d is neither yes nor no", n)
		*v = n == 1
	}
}

// Len writes a length, or reads one that is at most most. It is 0 after an error.
func (a *Archive) Len(n, most int) int {
	if Num(a, &n); a.w == nil && (n < 0 || n > most) {
		a.Refuse("a length of %d, at most %d", n, most)
	}
	if a.err != nil {
		return 0
	}
	return n
}

// Slice writes or reads the elements of a slice, of which there are at most most: each
// does it with one. Memory is taken as they come. One that is read is nil if there are none.
func Slice[E any](a *Archive, all *[]E, most int, each func(*E)) {
	n := a.Len(len(*all), most)
	if a.w != nil {
		for i := range *all {
			each(&(*all)[i])
		}
		return
	}
	*all = nil
	for range n {
		var e E
		if each(&e); a.err != nil {
			*all = nil
			return
		}
		*all = append(*all, e)
	}
}

// Bytes writes or reads bytes, at most most.
func (a *Archive) Bytes(b *[]byte, most int) {
	n := a.Len(len(*b), most)
	if a.w != nil {
		for left := *b; len(left) > 0 && a.err == nil; {
			a.room(1)
			k := min(len(left), 4+FrameSize-len(a.buf))
			a.buf, left = append(a.buf, left[:k]...), left[k:]
		}
		return
	}
	*b = nil
	for n > 0 && a.more() {
		k := min(n, len(a.buf))
		*b, a.buf, n = append(*b, a.buf[:k]...), a.buf[k:], n-k
	}
}

// Text writes or reads a text of at most most bytes.
func (a *Archive) Text(s *string, most int) {
	b := []byte(*s)
	if a.Bytes(&b, most); a.w == nil {
		*s = string(b)
	}
}

// Addr writes or reads an address, which may be the zero one. Zones are not written.
func (a *Archive) Addr(v *netip.Addr) {
	b := v.AsSlice()
	a.Bytes(&b, 16)
	if a.w == nil {
		var ok bool
		if *v, ok = netip.AddrFromSlice(b); !ok && len(b) > 0 {
			a.Refuse("an address of %d bytes", len(b))
		}
	}
}

// AddrPort writes or reads an address and a port.
func (a *Archive) AddrPort(v *netip.AddrPort) {
	addr, port := v.Addr(), v.Port()
	a.Addr(&addr)
	if Num(a, &port); a.w == nil {
		*v = netip.AddrPortFrom(addr, port)
	}
}

// Section begins a section, whose name errors tell, and which the reader must begin at the same place.
func (a *Archive) Section(name string) {
	was := name
	if a.Text(&name, 64); name != was {
		a.Refuse("behind it begins %q, and not %q", name, was)
	}
	a.section = was
}
