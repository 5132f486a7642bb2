// The pcap format: a header and records. Read draft-ietf-opsawg-pcap sections 4
// and 5 first.

package capture

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Lengths of a record's header. The modified format appends the interface, the
// protocol and the type of a packet.
const (
	pcapRecordLen   = 16
	pcapModifiedLen = 24
)

// pcap walks over a pcap file whose timestamps count in units of unit and whose
// records have headers of recordLen bytes.
func (w *walker) pcap(file []byte, order binary.ByteOrder, unit time.Duration, recordLen int) error {
	const headerLen, version = 24, 2
	if len(file) < headerLen {
		return fmt.Errorf("truncated: the header needs %d bytes, the file has %d", headerLen, len(file))
	}
	if v := order.Uint16(file[4:]); v != version {
		return fmt.Errorf("pcap of version %d, not %d", v, version)
	}
	link := uint16(order.Uint32(file[20:])) // the upper half tells of checksums on the link
	rest := file[headerLen:]
	for n := 1; len(rest) > 0; n++ {
		if len(rest) < recordLen {
			w.spoilt(fmt.Errorf("truncated: frame %d ends after %d bytes of its header", n, len(rest)))
			return nil
		}
		seconds, fraction := order.Uint32(rest), order.Uint32(rest[4:])
		kept, length := order.Uint32(rest[8:]), order.Uint32(rest[12:])
		rest = rest[recordLen:]
		switch {
		case kept > MaxFrameLen && int64(kept) > int64(len(rest)):
			w.spoilt(fmt.Errorf("damaged: frame %d claims %d bytes, more than the %d a frame can have", n, kept, MaxFrameLen))
			return nil
		case int(kept) > len(rest):
			w.spoilt(fmt.Errorf("truncated: frame %d has %d of its %d bytes", n, len(rest), kept))
			return nil
		case kept > MaxFrameLen:
			w.spoilt(fmt.Errorf("damaged: frame %d has %d bytes, more than the %d a frame can have", n, kept, MaxFrameLen))
			rest = rest[kept:]
			continue
		}
		w.visit(frame{
			at:   time.Unix(int64(seconds), int64(fraction)*int64(unit)),
			link: link, length: int(min(length, 1<<30)), data: rest[:kept:kept],
		})
		rest = rest[kept:]
	}
	return nil
}
