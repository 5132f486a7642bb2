// From a capture file to the IP packets in it: pcap and pcapng, every link type
// that a host or a router is likely to write.

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// capture is the content of a capture file: IP packets in the order of time,
// and what was not one.
type capture struct {
	packets []captured
	frames  int            // in the file
	skipped map[string]int // frames without an IP packet, by what they are
}

// captured is one IP packet of a capture. data starts at the IP header, may be
// damaged, and is never empty.
type captured struct {
	at   time.Duration // since the first frame of the capture
	data []byte
}

// readCapture reads a whole capture file. It fails on files that are cut off or
// damaged, because a silently shortened capture would give a silently wrong
// report, and on files without any IP packet.
func readCapture(file []byte) (*capture, error) {
	read, err := openCapture(file)
	if err != nil {
		return nil, err
	}
	c := &capture{skipped: make(map[string]int)}
	var stamps []time.Time
	for {
		frame, info, link, err := read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", c.frames+1, err)
		}
		c.frames++
		data, kind := ipPacket(link, frame)
		if kind != "" {
			c.skipped[kind]++
			continue
		}
		stamps = append(stamps, info.Timestamp)
		c.packets = append(c.packets, captured{data: data})
	}
	switch {
	case c.frames == 0:
		return nil, errors.New("no frames in the capture")
	case len(c.packets) == 0:
		return nil, fmt.Errorf("no IP packet among %s frames", count(c.frames))
	}
	first := slices.MinFunc(stamps, time.Time.Compare)
	for i, s := range stamps {
		c.packets[i].at = s.Sub(first)
	}
	// Frames of several interfaces, or of several CPUs, need not be in order.
	slices.SortStableFunc(c.packets, func(a, b captured) int { return int(min(1, max(-1, a.at-b.at))) })
	return c, nil
}

// frameReader returns the next frame and its link type, or io.EOF.
type frameReader func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)

// Magic numbers in the byte order in which they are found in files.
const (
	magicPcapng    = 0x0a0d0d0a // both byte orders
	magicByteOrder = 0x1a2b3c4d // of a pcapng section
	magicPcapMicro = 0xa1b2c3d4
	magicPcapNano  = 0xa1b23c4d
	magicGzip      = 0x1f8b
)

// openCapture recognizes the format of file and checks that its frames fill it
// exactly.
func openCapture(file []byte) (frameReader, error) {
	const pcapHeaderLen = 24
	switch {
	case len(file) == 0:
		return nil, errors.New("the file is empty")
	case len(file) >= 2 && binary.BigEndian.Uint16(file) == magicGzip:
		return nil, errors.New("the file is compressed; gunzip it first")
	case len(file) < 4:
		return nil, errors.New("not a pcap or pcapng file")
	case binary.BigEndian.Uint32(file) == magicPcapng:
		if err := checkBlocks(file); err != nil {
			return nil, err
		}
		r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return nil, err
		}
		return func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
			frame, info, err := r.ReadPacketData()
			if err != nil {
				return nil, info, 0, err
			}
			return frame, info, info.AncillaryData[0].(layers.LinkType), nil
		}, nil
	}
	order := pcapByteOrder(file)
	switch {
	case order == nil:
		return nil, errors.New("not a pcap or pcapng file")
	case len(file) < pcapHeaderLen:
		return nil, fmt.Errorf("truncated: the header needs %d bytes, the file has %d", pcapHeaderLen, len(file))
	}
	if err := checkRecords(file, pcapHeaderLen, order); err != nil {
		return nil, err
	}
	r, err := pcapgo.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	r.SetSnaplen(maxFrameLen) // some writers exceed what their header says
	return func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
		frame, info, err := r.ReadPacketData()
		return frame, info, r.LinkType(), err
	}, nil
}

// maxFrameLen is the longest frame that is taken seriously, as in libpcap.
const maxFrameLen = 256 << 10

// pcapByteOrder returns the byte order of a pcap file, or nil if it is none.
func pcapByteOrder(file []byte) binary.ByteOrder {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if magic := order.Uint32(file); magic == magicPcapMicro || magic == magicPcapNano {
			return order
		}
	}
	return nil
}

// checkRecords walks the records of a pcap file from offset at to its end.
func checkRecords(file []byte, at int, order binary.ByteOrder) error {
	const headerLen = 16
	for n := 1; at < len(file); n++ {
		if len(file)-at < headerLen {
			return fmt.Errorf("truncated: frame %d ends after %d bytes of its header", n, len(file)-at)
		}
		length := order.Uint32(file[at+8:])
		if length > maxFrameLen {
			return fmt.Errorf("damaged: frame %d claims %d bytes, more than the %d a frame can have", n, length, maxFrameLen)
		}
		at += headerLen
		if len(file)-at < int(length) {
			return fmt.Errorf("truncated: frame %d has %d of its %d bytes", n, len(file)-at, length)
		}
		at += int(length)
	}
	return nil
}

// checkBlocks walks the blocks of a pcapng file. Each names its length in front
// and behind.
func checkBlocks(file []byte) error {
	const overhead, maxBlockLen = 12, maxFrameLen + 64<<10
	var order binary.ByteOrder
	for at, n := 0, 1; at < len(file); n++ {
		rest := file[at:]
		if len(rest) < overhead {
			return fmt.Errorf("truncated: block %d ends after %d bytes of its header", n, len(rest))
		}
		if binary.BigEndian.Uint32(rest) == magicPcapng {
			switch {
			case binary.LittleEndian.Uint32(rest[8:]) == magicByteOrder:
				order = binary.LittleEndian
			case binary.BigEndian.Uint32(rest[8:]) == magicByteOrder:
				order = binary.BigEndian
			default:
				return fmt.Errorf("damaged: block %d has no byte-order mark", n)
			}
		}
		length := order.Uint32(rest[4:])
		switch {
		case length < overhead || length%4 != 0 || length > maxBlockLen:
			return fmt.Errorf("damaged: block %d claims a length of %d bytes", n, length)
		case int(length) > len(rest):
			return fmt.Errorf("truncated: block %d has %d of its %d bytes", n, len(rest), length)
		case order.Uint32(rest[length-4:]) != length:
			return fmt.Errorf("damaged: block %d has two different lengths", n)
		}
		at += int(length)
	}
	return nil
}

// Link types that pcapgo has no name for. It keeps the low 8 bits only.
const (
	linkRawBSD   layers.LinkType = 12
	linkRawOpen  layers.LinkType = 14
	linkSLL2     layers.LinkType = 276 & 0xff
	etherVLAN                    = layers.EthernetTypeDot1Q
	etherQinQ                    = layers.EthernetTypeQinQ
	etherOldQinQ                 = layers.EthernetType(0x9100)
)

// ipPacket returns the IP packet inside a frame, or what the frame is instead.
func ipPacket(link layers.LinkType, frame []byte) (packet []byte, kind string) {
	switch link {
	case layers.LinkTypeEthernet:
		return etherPayload(frame, 12, 14)
	case layers.LinkTypeLinuxSLL:
		return etherPayload(frame, 14, 16)
	case linkSLL2:
		return etherPayload(frame, 0, 20)
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		if len(frame) <= 4 {
			return nil, "too short"
		}
		// The address family is in the byte order of the machine that captured.
		switch family := binary.BigEndian.Uint32(frame) | binary.LittleEndian.Uint32(frame); family & 0xff {
		case 2, 10, 24, 28, 30: // AF_INET everywhere; AF_INET6 of Linux and the BSDs
			return frame[4:], ""
		default:
			return nil, fmt.Sprintf("address family %d", family&0xff)
		}
	case layers.LinkTypeRaw, linkRawBSD, linkRawOpen, layers.LinkTypeIPv4, layers.LinkTypeIPv6:
		if len(frame) == 0 {
			return nil, "too short"
		}
		return frame, ""
	default:
		return nil, fmt.Sprintf("link type %d", link)
	}
}

// etherPayload returns the IP packet of a frame whose EtherType is at typeAt
// and whose payload, or next VLAN tag, starts at payloadAt.
func etherPayload(frame []byte, typeAt, payloadAt int) (packet []byte, kind string) {
	for len(frame) > payloadAt {
		switch t := layers.EthernetType(binary.BigEndian.Uint16(frame[typeAt:])); t {
		case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
			return frame[payloadAt:], ""
		case etherVLAN, etherQinQ, etherOldQinQ:
			typeAt, payloadAt = payloadAt+2, payloadAt+4
		case layers.EthernetTypeARP:
			return nil, "ARP"
		default:
			return nil, fmt.Sprintf("EtherType %#04x", uint16(t))
		}
	}
	return nil, "too short"
}
