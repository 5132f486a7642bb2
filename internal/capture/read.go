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
	Skipped map[string]int // frames without an IP packet, by kind; "damaged" ones only by Salvage
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
	var stamps []time.Time
	file, damage := decompress(file, maxInflated)
	w := walker{visit: func(f frame) {
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
	}, spoilt: func(err error) {
		c.Frames++
		c.Skipped["damaged"]++
		damage = cmp.Or(damage, err)
	}}
	known, err := w.walk(file)
	switch damage = cmp.Or(damage, err); {
	case !known:
		return nil, damage
	case len(stamps) == 0:
		return c, damage
	}
	c.Begin = slices.MinFunc(stamps, time.Time.Compare)
	for i, s := range stamps {
		c.Packets[i].At = s.Sub(c.Begin)
	}
	// Frames of several interfaces, or of several CPUs, need not be in order.
	slices.SortStableFunc(c.Packets, func(a, b Packet) int { return cmp.Compare(a.At, b.At) })
	return c, damage
}

// maxInflated is the longest capture that is taken out of a compressed file, in
// bytes.
const maxInflated = 256 << 20

// decompress returns what a file compressed with gzip holds, up to damage and to a
// number of bytes, and any other file as it is.
func decompress(file []byte, most int64) ([]byte, error) {
	if len(file) < 2 || binary.BigEndian.Uint16(file) != magicGzip {
		return file, nil
	}
	var plain bytes.Buffer
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err == nil {
		_, err = io.CopyN(&plain, z, most+1)
	}
	switch {
	case err == nil:
		plain.Truncate(int(most))
		return plain.Bytes(), fmt.Errorf("the compressed file holds more than %d bytes; gunzip it first", most)
	case err != io.EOF:
		return plain.Bytes(), fmt.Errorf("damaged compressed file: %w", err)
	}
	return plain.Bytes(), nil
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

// walk recognizes the format of a file and calls visit for each of its frames.
// Records fill the file exactly, or walk fails.
func (w *walker) walk(file []byte) (known bool, err error) {
	switch {
	case len(file) == 0:
		return false, errors.New("the file is empty")
	case len(file) < 4:
	case binary.BigEndian.Uint32(file) == magicPcapng:
		return true, w.pcapng(file)
	default:
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			switch order.Uint32(file) {
			case magicPcapMicro:
				return true, w.pcap(file, order, time.Microsecond, pcapRecordLen)
			case magicPcapNano:
				return true, w.pcap(file, order, time.Nanosecond, pcapRecordLen)
			case magicPcapModified:
				return true, w.pcap(file, order, time.Microsecond, pcapModifiedLen)
			}
		}
	}
	return false, errors.New("not a pcap or pcapng file")
}
