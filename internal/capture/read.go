// From a capture file to the packets in it, in the order of time.

package capture

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// Capture is the content of a capture file.
type Capture struct {
	Packets []Packet       // in the order of time; those of one moment in the order of the file
	Begin   time.Time      // of the earliest packet; zero if there is none
	Frames  int            // in the file
	Cut     int            // frames of which the capture kept a part only (snap length)
	Skipped map[string]int // frames without an IP packet, by kind
}

// Packet is one IP packet of a capture. Data starts at the IP header, may be
// damaged, is never empty and aliases the file.
type Packet struct {
	At   time.Duration // since Begin, at most 272 years
	Data []byte
}

// MaxFrameLen is the longest frame that is taken seriously, in bytes; the limit
// of libpcap.
const MaxFrameLen = 256 << 10

// Read reads a whole capture file, in time and memory linear in its length. It
// fails on files that are empty, of another format, cut off or damaged, because a
// silently shortened capture would give a silently wrong result, and on files
// without any frame.
func Read(file []byte) (*Capture, error) {
	c := &Capture{Skipped: make(map[string]int)}
	var stamps []time.Time
	err := walk(file, func(f frame) {
		c.Frames++
		if len(f.data) < f.length {
			c.Cut++
		}
		data, kind := ipPacket(f.link, f.data)
		if kind != "" {
			c.Skipped[kind]++
			return
		}
		stamps = append(stamps, f.at)
		c.Packets = append(c.Packets, Packet{Data: data})
	})
	switch {
	case err != nil:
		return nil, err
	case c.Frames == 0:
		return nil, errors.New("no frames in the capture")
	case len(stamps) == 0:
		return c, nil
	}
	c.Begin = slices.MinFunc(stamps, time.Time.Compare)
	for i, s := range stamps {
		c.Packets[i].At = s.Sub(c.Begin)
	}
	// Frames of several interfaces, or of several CPUs, need not be in order.
	slices.SortStableFunc(c.Packets, func(a, b Packet) int { return cmp.Compare(a.At, b.At) })
	return c, nil
}

// frame is one frame of a capture file.
type frame struct {
	at     time.Time
	link   uint16 // LINKTYPE_ number of the tcpdump group's registry
	length int    // on the wire
	data   []byte // as much of it as was kept
}

// Magic numbers in the byte order in which they are found in files.
const (
	magicPcapng    = 0x0a0d0d0a // both byte orders
	magicByteOrder = 0x1a2b3c4d // of a pcapng section
	magicPcapMicro = 0xa1b2c3d4
	magicPcapNano  = 0xa1b23c4d
	magicGzip      = 0x1f8b
)

// walk recognizes the format of a file and calls visit for each of its frames, in
// order. Frames fill the file exactly, or walk fails.
func walk(file []byte, visit func(frame)) error {
	switch {
	case len(file) == 0:
		return errors.New("the file is empty")
	case len(file) >= 2 && binary.BigEndian.Uint16(file) == magicGzip:
		return errors.New("the file is compressed; gunzip it first")
	case len(file) < 4:
	case binary.BigEndian.Uint32(file) == magicPcapng:
		return walkPcapng(file, visit)
	default:
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			switch order.Uint32(file) {
			case magicPcapMicro:
				return walkPcap(file, order, time.Microsecond, visit)
			case magicPcapNano:
				return walkPcap(file, order, time.Nanosecond, visit)
			}
		}
	}
	return errors.New("not a pcap or pcapng file")
}
