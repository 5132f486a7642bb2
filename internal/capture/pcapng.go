// The pcapng format: sections of blocks, each with a byte order and interfaces of
// its own. Read draft-ietf-opsawg-pcapng section 4 first.

package capture

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"
)

// The blocks that are read; all others are passed over.
const (
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
)

// maxBlockLen is the longest block that is taken seriously, in bytes; the limit
// of Wireshark.
const maxBlockLen = 16 << 20

// section is what the blocks of a pcapng section share.
type section struct {
	order      binary.ByteOrder
	interfaces []networkInterface
}

// networkInterface is an interface that frames of a section were captured on.
type networkInterface struct {
	link    uint16
	snapLen uint32
	unit    uint64 // of its timestamps: parts of a second
	offset  int64  // seconds to be added to its timestamps
}

// pcapng walks over a pcapng file. Each block names its length in front and behind.
func (w *walker) pcapng(file []byte) error {
	const overhead = 12
	var s section
	for n := 1; len(file) > 0; n++ {
		if len(file) < overhead {
			return fmt.Errorf("truncated: block %d ends after %d bytes of its header", n, len(file))
		}
		begins := binary.BigEndian.Uint32(file) == magicPcapng
		if begins {
			s = section{}
			switch {
			case binary.LittleEndian.Uint32(file[8:]) == magicByteOrder:
				s.order = binary.LittleEndian
			case binary.BigEndian.Uint32(file[8:]) == magicByteOrder:
				s.order = binary.BigEndian
			default:
				return fmt.Errorf("damaged: block %d has no byte-order mark", n)
			}
		}
		length := s.order.Uint32(file[4:])
		switch {
		case length < overhead || length%4 != 0 || length > maxBlockLen:
			return fmt.Errorf("damaged: block %d claims a length of %d bytes", n, length)
		case int(length) > len(file):
			err := fmt.Errorf("truncated: block %d has %d of its %d bytes", n, len(file), length)
			switch s.order.Uint32(file) {
			case blockEnhanced, blockPacket, blockSimple:
				w.spoilt(err)
				return nil
			}
			return err
		case s.order.Uint32(file[length-4:]) != length:
			return fmt.Errorf("damaged: block %d has two different lengths", n)
		}
		if !begins {
			kind := s.order.Uint32(file)
			if err := s.block(kind, file[8:length-4], w.visit); err != nil {
				err = fmt.Errorf("damaged: block %d %w", n, err)
				if kind == blockInterface {
					return err // what its frames are is not known
				}
				w.spoilt(err)
			}
		} else if length < 28 || s.order.Uint16(file[12:]) != 1 {
			return fmt.Errorf("block %d does not begin a section of pcapng version 1", n)
		}
		file = file[length:]
	}
	return nil
}

// block reads the body of a block. Errors complete the sentence "block n ..".
func (s *section) block(kind uint32, body []byte, visit func(frame)) error {
	switch kind {
	case blockInterface:
		return s.addInterface(body)
	case blockEnhanced, blockPacket:
		const headerLen = 20
		if len(body) < headerLen {
			return fmt.Errorf("has %d bytes, too few for a frame", len(body))
		}
		id := s.order.Uint32(body)
		if kind == blockPacket {
			id = uint32(s.order.Uint16(body))
		}
		if int64(id) >= int64(len(s.interfaces)) {
			return fmt.Errorf("names interface %d, of %d", id, len(s.interfaces))
		}
		i := &s.interfaces[id]
		at := i.time(uint64(s.order.Uint32(body[4:]))<<32 | uint64(s.order.Uint32(body[8:])))
		return i.frame(at, s.order.Uint32(body[12:]), s.order.Uint32(body[16:]), body[headerLen:], visit)
	case blockSimple:
		const headerLen = 4
		if len(body) < headerLen || len(s.interfaces) == 0 {
			return fmt.Errorf("has %d bytes, and %d interfaces to choose from: too few", len(body), len(s.interfaces))
		}
		i, length := &s.interfaces[0], s.order.Uint32(body)
		kept := length
		if i.snapLen != 0 {
			kept = min(kept, i.snapLen)
		}
		return i.frame(time.Time{}, kept, length, body[headerLen:], visit)
	}
	return nil
}

// frame passes on the first kept bytes of b.
func (i *networkInterface) frame(at time.Time, kept, length uint32, b []byte, visit func(frame)) error {
	if kept > MaxFrameLen || int(kept) > len(b) {
		return fmt.Errorf("claims a frame of %d bytes, in %d", kept, len(b))
	}
	visit(frame{at: at, link: i.link, length: int(min(length, 1<<30)), data: b[:kept:kept]})
	return nil
}

// addInterface reads an interface description.
func (s *section) addInterface(body []byte) error {
	const headerLen, optionLen = 8, 4
	const endOfOptions, timestampResolution, timestampOffset = 0, 9, 14
	if len(body) < headerLen {
		return fmt.Errorf("has %d bytes, too few for an interface", len(body))
	}
	i := networkInterface{link: s.order.Uint16(body), snapLen: s.order.Uint32(body[4:]), unit: 1e6}
	for rest := body[headerLen:]; len(rest) >= optionLen; {
		code, length := s.order.Uint16(rest), int(s.order.Uint16(rest[2:]))
		padded := optionLen + (length+3)&^3
		if code == endOfOptions {
			break
		}
		if padded > len(rest) {
			return fmt.Errorf("has an option of %d bytes, in %d", length, len(rest)-optionLen)
		}
		switch value := rest[optionLen : optionLen+length]; {
		case code == timestampResolution && length == 1:
			var ok bool
			if i.unit, ok = partsOfSecond(value[0]); !ok {
				return fmt.Errorf("has a timestamp resolution of %#02x", value[0])
			}
		case code == timestampOffset && length == 8:
			i.offset = int64(s.order.Uint64(value))
		}
		rest = rest[padded:]
	}
	s.interfaces = append(s.interfaces, i)
	return nil
}

// partsOfSecond returns how many units of a resolution make a second: a power of
// ten, or of two if the highest bit is set.
func partsOfSecond(resolution uint8) (unit uint64, ok bool) {
	const binaryBit, maxTen, maxTwo = 0x80, 19, 63 // the highest powers in 64 bits
	if resolution&binaryBit != 0 {
		exponent := resolution &^ binaryBit
		return 1 << (exponent & maxTwo), exponent <= maxTwo
	}
	unit = 1
	for range min(resolution, maxTen) {
		unit *= 10
	}
	return unit, resolution <= maxTen
}

// time converts a timestamp. Outside of 1970 to 2242 it returns the zero Time, so that
// any two lie less than a time.Duration apart.
func (i *networkInterface) time(stamp uint64) time.Time {
	const end = 1 << 33 // seconds
	seconds := stamp / i.unit
	if sum := int64(seconds) + i.offset; seconds < end && -end < i.offset && i.offset < end && 0 <= sum && sum < end {
		hi, lo := bits.Mul64(stamp%i.unit, uint64(time.Second))
		nanos, _ := bits.Div64(hi, lo, i.unit)
		return time.Unix(sum, int64(nanos))
	}
	return time.Time{}
}
