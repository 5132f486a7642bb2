// From a capture file to the packets in it, in the order of time.

package capture

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Capture is the content of a capture file.
type Capture struct {
	Packets []Packet       // in the order of time; those of one moment in the order of the file
	Begin   time.Time      // of the earliest packet; zero if there is none
	Frames  int            // in the file
	Cut     int            // frames of which the capture kept a part only (snap length)
	Untimed int            // frames without a time from 1970 to 2242: they have that of the frame before, or of the first that has one
	Skipped map[string]int // frames without an IP packet, by kind; "damaged" ones only by Salvage
}

// Packet is one IP packet of a capture. It may be cut: see Cut.
type Packet struct {
	At time.Duration // since Begin, at most 272 years

	// Data starts at the IP header. It may be damaged, is never empty and aliases the
	// file.
	Data []byte

	missing int // bytes that the frame had after Data and the capture did not keep
}

// MaxFrameLen is the longest frame that is taken seriously, in bytes; the limit
// of libpcap.
const MaxFrameLen = 256 << 10

// Read reads a whole capture file, which may be compressed with gzip, in time and
// memory linear in its length. It fails on files that are empty, of another format,
// cut off or damaged, because a silently shortened capture would give a silently
// wrong result.
func Read(file []byte) (*Capture, error) {
	c, err := Salvage(file)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Salvage is Read, but of a file that is cut off or damaged it returns both an
// error, which tells the first damage, and what else is in the file: all up to
// where the walk over its records cannot go on. Frames whose record is damaged are
// skipped as "damaged". The capture is nil if nothing at all could be recognized.
func Salvage(file []byte) (*Capture, error) {
	c := &Capture{Skipped: make(map[string]int)}
	file, damage := decompress(file, mostInflated(len(file)))
	var (
		zero time.Time     // of the first frame that has a time; packets are timed since then, at first
		last time.Duration // of the frame before
	)
	w := walker{visit: func(f frame) {
		c.Frames++
		if len(f.data) < f.length {
			c.Cut++
		}
		switch {
		case f.at.IsZero():
			c.Untimed++
		case zero.IsZero():
			zero = f.at
		default:
			last = f.at.Sub(zero)
		}
		data, kind := ipPacket(f.link, f.data)
		if kind != "" {
			c.Skipped[kind]++
			return
		}
		c.Packets = append(c.Packets, Packet{At: last, Data: data, missing: max(0, f.length-len(f.data))})
	}, spoilt: func(err error) {
		c.Frames++
		c.Skipped["damaged"]++
		damage = cmp.Or(damage, err)
	}}
	known, err := w.walk(file)
	switch damage = cmp.Or(damage, err); {
	case !known:
		return nil, damage
	case len(c.Packets) == 0:
		return c, damage
	}
	// Frames of several interfaces, or of several CPUs, need not be in order.
	slices.SortStableFunc(c.Packets, func(a, b Packet) int { return cmp.Compare(a.At, b.At) })
	if zero.IsZero() {
		zero = time.Unix(0, 0)
	}
	first := c.Packets[0].At
	c.Begin = zero.Add(first)
	for i := range c.Packets {
		c.Packets[i].At -= first
	}
	return c, damage
}

// mostInflated returns how much is taken out of a compressed file of n bytes, in bytes:
// no more than people who capture have there, so that little cannot become much.
func mostInflated(n int) int64 {
	const least, ratio, most = 32 << 20, 32, 256 << 20
	return min(max(least, int64(n)*ratio), most)
}

// decompress returns what a file compressed with gzip holds, up to damage and to a
// number of bytes, and any other file as it is. It takes no more memory than it
// returns, and reads the file twice for that.
func decompress(file []byte, most int64) ([]byte, error) {
	if len(file) < 2 || binary.BigEndian.Uint16(file) != magicGzip {
		return file, nil
	}
	inflate := func(to io.Writer, n int64) (int64, error) {
		z, err := gzip.NewReader(bytes.NewReader(file))
		if err != nil {
			return 0, err
		}
		return io.CopyN(to, z, n)
	}
	n, err := inflate(io.Discard, most+1)
	plain := bytes.NewBuffer(make([]byte, 0, min(n, most)+bytes.MinRead))
	_, _ = inflate(plain, min(n, most)) // as far as it went before
	switch {
	case err == nil:
		return plain.Bytes(), fmt.Errorf("the compressed file of %d bytes holds more than %d; gunzip it first", len(file), most)
	case err != io.EOF:
		return plain.Bytes(), fmt.Errorf("damaged compressed file: %w", err)
	}
	return plain.Bytes(), nil
}

// frame is one frame of a capture file.
type frame struct {
	at     time.Time // zero: not told
	link   uint16    // LINKTYPE_ number of the tcpdump group's registry
	length int       // on the wire
	data   []byte    // as much of it as was kept
}

// Magic numbers in the byte order in which they are found in files.
const (
	magicPcapng       = 0x0a0d0d0a // both byte orders
	magicByteOrder    = 0x1a2b3c4d // of a pcapng section
	magicPcapMicro    = 0xa1b2c3d4
	magicPcapNano     = 0xa1b23c4d
	magicPcapModified = 0xa1b2cd34 // of Linux 2.0 to 2.2
	magicGzip         = 0x1f8b
)

// walker goes over the records of a file.
type walker struct {
	visit  func(frame) // for each frame, in order
	spoilt func(error) // for each record of a frame that is damaged in itself; the walk goes on
}

// recognized reports whether a file that begins with b may be one that is read here,
// compressed or not.
func recognized(b []byte) bool {
	w := walker{}
	return bytes.HasPrefix(b, []byte{magicGzip >> 8, magicGzip & 0xff}) || w.formatOf(b) != nil
}

// walk recognizes the format of a file and calls visit for each of its frames.
// Records fill the file exactly, or walk fails.
func (w *walker) walk(file []byte) (known bool, err error) {
	if len(file) == 0 {
		return false, errors.New("the file is empty")
	}
	format := w.formatOf(file)
	if format == nil {
		return false, errors.New("not a pcap or pcapng file")
	}
	return true, format(file)
}

// formatOf returns the walk over a file that begins with b; nil if that is none.
func (w *walker) formatOf(b []byte) func(file []byte) error {
	if len(b) < 4 {
		return nil
	}
	if binary.BigEndian.Uint32(b) == magicPcapng {
		return w.pcapng
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		pcap := func(unit time.Duration, recordLen int) func([]byte) error {
			return func(file []byte) error { return w.pcap(file, order, unit, recordLen) }
		}
		switch order.Uint32(b) {
		case magicPcapMicro:
			return pcap(time.Microsecond, pcapRecordLen)
		case magicPcapNano:
			return pcap(time.Nanosecond, pcapRecordLen)
		case magicPcapModified:
			return pcap(time.Microsecond, pcapModifiedLen)
		}
	}
	return nil
}
