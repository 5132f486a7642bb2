package wire

import (
	"bytes"
	"fmt"
	"testing"
)

// Fragments are no longer than the MTU, follow each other without a gap, carry the
// identification and a true checksum, and hold the payload. Of the options of a whole
// packet only those that are to be copied are in fragments other than the first.
func TestIPv4Split(t *testing.T) {
	record, alert := []byte{7, 7, 4, 0, 0, 0, 0, 0}, []byte{0x94, 4, 0, 0}
	for _, tt := range []struct{ options, later []byte }{
		{nil, nil},
		{record, nil},
		{alert, alert},
		{append(append([]byte{1}, alert...), record[:7]...), alert},
	} {
		for _, mtu := range []int{68, 576, 1499, 1500} {
			for _, offset := range []int{0, 800} {
				for _, more := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d bytes of options, MTU %d, offset %d, more %v", len(tt.options), mtu, offset, more), func(t *testing.T) {
						testSplit(t, tt.options, tt.later, mtu, offset, more)
					})
				}
			}
		}
	}
}

func testSplit(t *testing.T, options, later []byte, mtu, offset int, more bool) {
	payload := make([]byte, 4000)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	whole := append(append(make(IPv4, ipv4MinLen), options...), payload...)
	whole.SetVersionAndHeaderLen(ipv4MinLen + len(options))
	whole.SetTotalLength(uint16(len(whole)))
	whole.SetTTL(9)
	flags := map[bool]uint8{true: IPv4MF}
	whole.SetFragment(flags[more], offset)
	before := bytes.Clone(whole)
	var got []byte
	for f := range whole.Split(mtu, 0x1234) {
		header, want := f[:f.HeaderLen()], options
		if offset == 0 && len(got) > 0 {
			want = later
		}
		at := offset + len(got)
		got = append(got, f[len(header):]...)
		if len(f) > mtu || int(f.TotalLength()) != len(f) || f.ID() != 0x1234 || f.TTL() != 9 || f.FragmentOffset() != at ||
			f.Flags() != flags[more || len(got) < len(payload)] || Checksum(header, 0) != 0 || !bytes.Equal(header[ipv4MinLen:], want) {
			t.Fatalf("fragment at %d with header % x", at, header)
		}
	}
	if !bytes.Equal(got, payload) {
		t.Error("the payload has changed")
	}
	if !bytes.Equal(whole, before) {
		t.Error("what was split has changed")
	}
}
