package snapshot

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample has what an archive can hold.
type sample struct {
	Small  uint8
	Large  uint64
	Signed int32
	Least  int64
	Yes    bool
	List   []uint16
	Blob   []byte
	Text   string
	Addr   netip.AddrPort
	Inner  []byte
	Many   [5]uint64
}

func (s *sample) archive(a *Archive) {
	a.Section("numbers")
	Num(a, &s.Small)
	Num(a, &s.Large)
	Num(a, &s.Signed)
	Num(a, &s.Least)
	a.Bool(&s.Yes)
	a.Uints(s.Many[:])
	a.Section("lists")
	Slice(a, &s.List, 100_000, func(n *uint16) { Num(a, n) })
	a.Bytes(&s.Blob, 1<<20)
	a.Text(&s.Text, 100)
	a.AddrPort(&s.Addr)
	a.Section("nested")
	a.Nest(func(w io.Writer) error {
		in := NewWriter(w, "inner", 1)
		in.Bytes(&s.Inner, 1<<20)
		return in.Close()
	}, func(r io.Reader) error {
		in := NewReader(r, "inner", 1)
		in.Bytes(&s.Inner, 1<<20)
		return in.Close()
	})
}

func written(t *testing.T, s *sample) []byte {
	var b bytes.Buffer
	a := NewWriter(&b, "sample", 1)
	s.archive(a)
	require.NoError(t, a.Close())
	return b.Bytes()
}

func read(r io.Reader) (s sample, err error) {
	a := NewReader(r, "sample", 1)
	s.archive(a)
	return s, a.Close()
}

func someSample(blob int) *sample {
	s := &sample{
		Small: 255, Large: math.MaxUint64, Signed: -5, Least: math.MinInt64, Yes: true, List: []uint16{1, 0, 65535},
		Text: "text", Addr: netip.MustParseAddrPort("[2001:db8::1]:53"), Inner: bytes.Repeat([]byte{7}, blob),
		Many: [5]uint64{0, 127, 128, 1 << 40, math.MaxUint64},
	}
	for i := range blob {
		s.Blob = append(s.Blob, byte(i*i>>3))
	}
	return s
}

// What is written is read, from a stream that gives what it wants, and nothing behind it is touched.
func TestArchive(t *testing.T) {
	for _, blob := range []int{0, 10, FrameSize - 3, FrameSize, 3*FrameSize + 17} {
		s := someSample(blob)
		b := written(t, s)
		r := bytes.NewReader(append(bytes.Clone(b), "behind"...))
		got, err := read(iotest.OneByteReader(r))
		require.NoError(t, err)
		if blob == 0 {
			s.Blob, s.Inner = nil, nil
		}
		require.Equal(t, *s, got)
		rest, _ := io.ReadAll(r)
		require.Equal(t, "behind", string(rest))
	}
}

// Every flipped bit and every truncation is refused.
func TestDamage(t *testing.T) {
	b := written(t, someSample(20))
	for i := range b {
		for bit := range 8 {
			spoilt := bytes.Clone(b)
			spoilt[i] ^= 1 << bit
			_, err := read(bytes.NewReader(spoilt))
			require.Error(t, err, "byte %d, bit %d", i, bit)
			require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion), "%v", err)
		}
		_, err := read(bytes.NewReader(b[:i]))
		require.ErrorIs(t, err, ErrDamaged, "the first %d bytes", i)
	}
	_, err := read(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(b))))
	require.ErrorIs(t, err, iotest.ErrTimeout)
}

// Frames in another order are refused, although each is whole.
func TestFramesAreChained(t *testing.T) {
	s := &sample{Blob: make([]byte, 3*FrameSize)}
	b := written(t, s)
	const header, frame = len(magic) + 3 + len("sample"), 4 + FrameSize + sumSize
	one, two := b[header:header+frame], b[header+frame:header+2*frame]
	swapped := append(append(append(bytes.Clone(b[:header]), two...), one...), b[header+2*frame:]...)
	_, err := read(bytes.NewReader(swapped))
	require.ErrorIs(t, err, ErrDamaged)
}

func TestVersionsAndKinds(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, NewWriter(&b, "sample", 2).Close())
	a := NewReader(bytes.NewReader(b.Bytes()), "sample", 1)
	require.ErrorIs(t, a.Close(), ErrVersion)
	a = NewReader(bytes.NewReader(b.Bytes()), "other", 2)
	require.ErrorIs(t, a.Close(), ErrDamaged)
	a = NewReader(bytes.NewReader(b.Bytes()), "sample", 3)
	require.NoError(t, a.Close())
	require.Equal(t, 2, a.Version())
}

// Counts beyond what may be are refused, before memory is taken for them.
func TestForgedCounts(t *testing.T) {
	var b bytes.Buffer
	a := NewWriter(&b, "sample", 1)
	n := uint64(1 << 40)
	Num(a, &n)
	require.NoError(t, a.Close())
	for _, most := range []int{1 << 20, math.MaxInt} {
		a = NewReader(bytes.NewReader(b.Bytes()), "sample", 1)
		var list []uint64
		Slice(a, &list, most, func(v *uint64) { Num(a, v) })
		require.ErrorIs(t, a.Err(), ErrDamaged)
		require.Empty(t, list)
	}
}

type failing struct{ left int }

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func TestWritersErrors(t *testing.T) {
	for left := range 100 {
		a := NewWriter(&failing{left}, "sample", 1)
		someSample(10).archive(a)
		require.ErrorIs(t, a.Close(), io.ErrClosedPipe)
	}
}

// FuzzArchive reads anything: it is refused, or is what would be written.
func FuzzArchive(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte(magic+"\x01\x00\x06sample"), false)
	var b bytes.Buffer
	a := NewWriter(&b, "sample", 1)
	someSample(20).archive(a)
	_ = a.Close()
	f.Add(b.Bytes(), false)
	f.Add(b.Bytes(), true)
	f.Fuzz(func(t *testing.T, b []byte, reseal bool) {
		if reseal {
			b = Reseal(b)
		}
		s, err := read(bytes.NewReader(b))
		if err == nil {
			again, err := read(bytes.NewReader(written(t, &s)))
			require.NoError(t, err)
			require.Equal(t, s, again)
		}
	})
}

type inner struct{ Depth int }

type configured struct {
	inner
	Name  string
	Rules []inner
	Any   any
	Table map[string]int
	Addr  netip.Addr
	Hook  func()
	Free  int
}

// Every difference between configurations is told, and nothing else is.
func TestConfig(t *testing.T) {
	make := func() *configured {
		return &configured{inner{1}, "a", []inner{{1}, {2}}, &inner{3}, map[string]int{"x": 1, "y": 2}, netip.MustParseAddr("10.0.0.1"), nil, 7}
	}
	var b bytes.Buffer
	a := NewWriter(&b, "c", 1)
	a.Config(make(), "Free")
	require.NoError(t, a.Close())
	compare := func(c *configured) error {
		a := NewReader(bytes.NewReader(b.Bytes()), "c", 1)
		a.Config(c, "Free")
		return a.Close()
	}
	same := make()
	same.Free, same.Hook = 8, func() {}
	require.NoError(t, compare(same))
	for want, change := range map[string]func(*configured){
		"Depth is another one":     func(c *configured) { c.Depth = 2 },
		"Name is another one":      func(c *configured) { c.Name = "b" },
		"Rules[1] is another one":  func(c *configured) { c.Rules[1].Depth = 3 },
		"Rules has 1 elements":     func(c *configured) { c.Rules = c.Rules[:1] },
		"Rules has 3 elements":     func(c *configured) { c.Rules = append(c.Rules, inner{}) },
		"Any is another one":       func(c *configured) { c.Any = &inner{4} },
		"Table is another one":     func(c *configured) { c.Table["x"] = 3 },
		"Addr is another one, not": func(c *configured) { c.Addr = netip.MustParseAddr("10.0.0.2") },
	} {
		c := make()
		change(c)
		err := compare(c)
		require.ErrorIs(t, err, ErrConfig)
		assert.ErrorContains(t, err, want)
	}
}

type small struct {
	list  []pair
	count [2]atomic.Uint64
	next  atomic.Int64
	text  string
	data  []byte
	tie   func()
	_     [3]byte
}

var _ = small{}.tie // which is only named

type pair struct {
	a uint8
	b int16
	c bool
	d netip.Addr
}

// A value is read as it was written, whoever has its fields, and what is excepted stays as it is.
func TestValue(t *testing.T) {
	var was, is small
	was.list, was.text, was.data = []pair{{1, -2, true, netip.MustParseAddr("10.0.0.1")}, {}}, "text", []byte{1, 2}
	was.count[1].Store(7)
	was.next.Store(-8)
	var b bytes.Buffer
	a := NewWriter(&b, "value", 1)
	a.Value(&was, 10, "tie")
	require.NoError(t, a.Close())
	a = NewReader(bytes.NewReader(b.Bytes()), "value", 1)
	a.Value(&is, 10, "tie")
	require.NoError(t, a.Close())
	require.Equal(t, was.list, is.list)
	require.Equal(t, was.text, is.text)
	require.Equal(t, was.data, is.data)
	require.Equal(t, uint64(7), is.count[1].Load())
	require.Equal(t, int64(-8), is.next.Load())
	a = NewReader(bytes.NewReader(b.Bytes()), "value", 1)
	a.Value(&is, 1, "tie")
	require.ErrorIs(t, a.Close(), ErrDamaged)
	require.Panics(t, func() { NewWriter(&b, "value", 1).Value(&was, 10) })
}

// Numbers that are read together are those that are read one by one, wherever a frame ends, and one that does not end is
// refused in either way.
func TestUints(t *testing.T) {
	for pad := range 60 {
		want := []uint64{1, 300, math.MaxUint64, 0, 1 << 33}
		b := Written(func(a *Archive) {
			blob := make([]byte, FrameSize-40+pad)
			a.Bytes(&blob, FrameSize+20)
			a.Uints(want)
			a.Uints(want)
		})
		require.NoError(t, Read(b, func(a *Archive) {
			var blob []byte
			a.Bytes(&blob, FrameSize+20)
			got, one := make([]uint64, len(want)), make([]uint64, len(want))
			a.Uints(got)
			for i := range one {
				Num(a, &one[i])
			}
			require.Equal(t, want, got)
			require.Equal(t, want, one)
		}))
	}
	endless := bytes.Repeat([]byte{0xff}, 80)
	b := Written(func(a *Archive) { a.Bytes(&endless, 80) })
	require.ErrorContains(t, Read(b, func(a *Archive) {
		a.Len(0, 80)
		got := [3]uint64{1, 2, 3}
		a.Uints(got[:])
		require.Zero(t, got)
	}), "a number that does not end")
}
