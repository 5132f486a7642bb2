// The pcap format: a header and records. Read draft-ietf-opsawg-pcap sections 4
// and 5 first.

package capture

import (
	"encoding/binary"
	"fmt"
	"time"
)

// walkPcap calls visit for the frames of a pcap file whose timestamps count in
// units of unit.
func walkPcap(file []byte, order binary.ByteOrder, unit time.Duration, visit func(frame)) error {
	const headerLen, recordLen, version = 24, 16, 2
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
			return fmt.Errorf("truncated: frame %d ends after %d bytes of its header", n, len(rest))
		}
		seconds, fraction := order.Uint32(rest), order.Uint32(rest[4:])
		kept, length := order.Uint32(rest[8:]), order.Uint32(rest[12:])
		rest = rest[recordLen:]
		switch {
		case kept > MaxFrameLen:
			return fmt.Errorf("damaged: frame %d claims %d bytes, more than the %d a frame can have", n, kept, MaxFrameLen)
		case int(kept) > len(rest):
			return fmt.Errorf("truncated: frame %d has %d of its %d bytes", n, len(rest), kept)
		}
		visit(frame{
			at:   time.Unix(int64(seconds), int64(fraction)*int64(unit)),
			link: link, length: int(min(length, 1<<30)), data: rest[:kept:kept],
		})
		rest = rest[kept:]
	}
	return nil
}
