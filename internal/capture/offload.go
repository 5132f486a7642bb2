// Packets that were captured on the host that sent them, before its network card
// did the rest: checksums that are not computed yet, lengths that are not filled in.
// And packets that are cut: what is not there is taken for zeros, which change no
// checksum.

package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Checksums says which wrong checksums of a capture Repair computes anew.
type Checksums uint8

// Ways to treat checksums.
const (
	RepairOffloaded Checksums = iota // those that look as if hardware was to compute them
	RepairAll
	RepairNone
	numChecksums
)

var checksumsNames = [...]string{"auto", "repair", "keep"}

var _ = [1]struct{}{}[len(checksumsNames)-int(numChecksums)] // one name per way

// String returns the name of c, as UnmarshalText reads it.
func (c Checksums) String() string { return checksumsNames[c] }

// MarshalText returns the name of c. It does not fail.
func (c Checksums) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText sets c by its name.
func (c *Checksums) UnmarshalText(text []byte) error {
	i := slices.Index(checksumsNames[:], string(text))
	if i < 0 {
		return errors.New("must be one of " + strings.Join(checksumsNames[:], ", "))
	}
	*c = Checksums(i)
	return nil
}

// Repairs is what Repair has done.
type Repairs struct {
	Packets int // of which a checksum, perhaps also the length, was repaired
	Lengths int // of these, with a length of 0 that is now that of the frame
	Hosts   int // that they are from
}

// String is one line about the repairs, without a full stop; empty if there were none.
func (r Repairs) String() string {
	if r.Packets == 0 {
		return ""
	}
	plural := func(n int, of string) string {
		if n != 1 {
			of += "s"
		}
		return fmt.Sprintf("%d %s", n, of)
	}
	s := fmt.Sprintf("%s from %s had no right checksums when they were captured (offloading): these are computed",
		plural(r.Packets, "packet"), plural(r.Hosts, "host"))
	if r.Lengths > 0 {
		s += fmt.Sprintf(", and %s of 0 filled in", plural(r.Lengths, "length"))
	}
	return s
}

// Cut returns how many bytes at the end of the packet the capture did not keep (snap
// length). It is 0 also where the capture kept less than the headers, so that nothing
// can be known of the packet, or the frame was shorter than the packet claims.
func (p *Packet) Cut() int {
	n := ipLength(p.Data) - len(p.Data)
	if n <= 0 || n > p.missing || len(p.Data) < headersLen(p.Data) {
		return 0
	}
	return n
}

// AppendTo appends the whole packet to b, zeros for what is cut.
func (p *Packet) AppendTo(b []byte) []byte {
	return append(append(b, p.Data...), make([]byte, p.Cut())...)
}

// ipLength returns the length that the IP packet b says it has; 0 if it does not.
func ipLength(b []byte) int {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= 40 && b[0]>>4 == 6:
		return 40 + int(binary.BigEndian.Uint16(b[4:]))
	}
	return 0
}

// headersLen returns how many bytes of an IP packet, of which b has the IP header, hold
// all that a translator reads.
func headersLen(b []byte) int {
	const tcp, others, extension = 20, 8, 8
	n, proto := 40, b[6]
	if b[0]>>4 == 4 {
		n, proto = int(b[0]&15)*4, b[9]
	}
	switch proto {
	case wire.ProtoTCP:
		return n + tcp
	case wire.ProtoUDP, wire.ProtoICMP, wire.ProtoICMPv6:
		return n + others
	}
	return n + extension + tcp
}

// evidence is what a packet tells about checksums.
type evidence uint8

const (
	nothing   evidence = iota
	right              // all of them are
	wrong              // one is, in no special way
	offloaded          // one is as the host left it to its network card
)

// examined is a packet with everything in place that Repair might put there.
type examined struct {
	bytes    []byte // all of the packet
	parsed   wire.Packet
	whole    bool // parsed is one with a checksum of its own
	length   bool // it had a length of 0
	evidence evidence
}

// sender is a host, and a protocol of it: cards know some and leave others to the host.
type sender struct {
	addr  netip.Addr
	proto uint8 // 0 where the packet is not whole
}

// tally counts the evidence of one sender, or of all.
type tally struct{ right, wrong int }

// throughout reports whether checksums are wrong as often as that at least, and never
// right, so that this is no damage.
func (t tally) throughout(often int) bool { return t.right == 0 && t.wrong >= often }

// How often checksums must be wrong, and never right: those of one sender where others
// have right ones, and of a whole capture.
const (
	oftenOfOne = 3
	oftenOfAll = 2
)

// Repair computes checksums of the capture that are wrong because it was made before
// they were computed, on the host that sent the packets. In TCP and UDP they look
// then like the sum of the pseudo-header alone, or like nothing; or all that a host
// sent of a protocol, three at least, have wrong ones; or all of the capture, two at
// least. Likewise TCP segments with an IP length of 0, which a card was
// to cut, get that of their frame. Packets that are cut get checksums for zeros in
// place of what is not there, and do not count. With RepairNone nothing is done.
//
// Packets that change no longer alias the file. The time is linear in the length of
// all packets.
func (c *Capture) Repair(which Checksums) Repairs {
	var (
		done    Repairs
		buffer  []byte
		all     tally
		senders = make(map[sender]tally)
		found   = make([]evidence, len(c.Packets))
	)
	if which == RepairNone {
		return done
	}
	for i := range c.Packets {
		x := c.Packets[i].examine(buffer)
		buffer, found[i] = x.bytes, x.evidence
		if x.evidence == nothing {
			continue
		}
		one := senders[x.sender()]
		for _, t := range []*tally{&all, &one} {
			if x.evidence == right {
				t.right++
			} else {
				t.wrong++
			}
		}
		senders[x.sender()] = one
	}
	repaired := make(map[netip.Addr]bool)
	for i := range c.Packets {
		p := &c.Packets[i]
		if found[i] != wrong && found[i] != offloaded && p.Cut() == 0 {
			continue
		}
		x := p.examine(buffer)
		buffer = x.bytes
		repair := x.evidence == offloaded || x.evidence == wrong && (which == RepairAll || all.throughout(oftenOfAll) || senders[x.sender()].throughout(oftenOfOne))
		if !repair && (p.Cut() == 0 || x.evidence == wrong) {
			continue
		}
		x.compute()
		p.Data = slices.Clone(x.bytes[:len(p.Data)])
		if repair {
			done.Packets++
			repaired[x.sender().addr] = true
			if x.length {
				done.Lengths++
			}
		}
	}
	done.Hosts = len(repaired)
	return done
}

// examine looks for evidence in a packet. It overwrites buffer.
func (p *Packet) examine(buffer []byte) (x examined) {
	x.bytes = p.AppendTo(buffer[:0])
	x.length = p.fillLength(&x)
	header := nothing // of the checksum of IPv4
	if b := x.bytes; len(b) >= 20 && b[0]>>4 == 4 && b[0]&15 >= 5 && len(b) >= int(b[0]&15)*4 {
		stored := wire.IPv4(b).Checksum()
		wire.IPv4(b).ComputeChecksum()
		switch {
		case x.length || stored == 0 && wire.IPv4(b).Checksum()%0xffff != 0:
			header = offloaded
		case stored%0xffff != wire.IPv4(b).Checksum()%0xffff:
			header = wrong
		}
	}
	problem := wire.Parse(x.bytes, &x.parsed)
	x.whole = (problem == wire.OK || problem == wire.NoHops) && x.parsed.Flags&wire.Fragmented == 0 && hasChecksum(x.parsed.Proto)
	x.evidence = header
	if x.whole {
		x.evidence = max(header, x.upper(len(x.bytes) > len(p.Data)))
	}
	return x
}

// hasChecksum reports whether the checksum of a transport protocol is known here. A
// packet without hops may be of any.
func hasChecksum(proto uint8) bool {
	switch proto {
	case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoICMP, wire.ProtoICMPv6:
		return true
	}
	return false
}

// fillLength gives a TCP segment with an IP length of 0 that of its frame, and reports
// whether it was one.
func (p *Packet) fillLength(x *examined) bool {
	const least, most = 20, 0xffff
	n := len(p.Data) + p.missing
	switch b := wire.IPv4(x.bytes); {
	case len(b) >= 20 && b[0]>>4 == 4 && b.TotalLength() == 0 && b.Protocol() == wire.ProtoTCP && b.HeaderLen()+least <= n && n <= most:
		b.SetTotalLength(uint16(n))
	case len(b) >= 40 && b[0]>>4 == 6 && wire.IPv6(b).PayloadLength() == 0 && b[6] == wire.ProtoTCP && 40+least <= n && n <= 40+most:
		wire.IPv6(b).SetPayloadLength(uint16(n - 40))
	default:
		return false
	}
	x.bytes = append(x.bytes, make([]byte, p.missing)...)
	return true
}

// upper returns the evidence of the checksum of the transport header. One over bytes
// that are cut tells little.
func (x *examined) upper(cut bool) evidence {
	stored := binary.BigEndian.Uint16(x.checksum())
	switch {
	case x.parsed.Proto == wire.ProtoUDP && stored == 0: // none
		return nothing
	case !cut && wire.VerifyL4(&x.parsed):
		return right
	}
	if x.parsed.Proto == wire.ProtoTCP || x.parsed.Proto == wire.ProtoUDP {
		// Where a card was to cut the segment, the length is left out.
		if stored == 0 || stored == wire.Fold(x.pseudoHeader(x.upperLen())) || stored == wire.Fold(x.pseudoHeader(0)) {
			return offloaded
		}
	}
	if cut {
		return nothing
	}
	return wrong
}

// compute makes the checksum of the transport header right.
func (x *examined) compute() {
	if !x.whole {
		return
	}
	sum := x.checksum()
	if x.parsed.Proto == wire.ProtoUDP && sum[0]|sum[1] == 0 {
		return
	}
	sum[0], sum[1] = 0, 0
	pseudo := x.pseudoHeader(x.upperLen())
	if x.parsed.Proto == wire.ProtoICMP {
		pseudo = 0
	}
	fresh := wire.Checksum(x.parsed.B[x.parsed.L4:][:x.upperLen()], pseudo)
	if fresh == 0 && x.parsed.Proto == wire.ProtoUDP {
		fresh = 0xffff
	}
	binary.BigEndian.PutUint16(sum, fresh)
}

// checksum returns where the transport header has it.
func (x *examined) checksum() []byte {
	at := 2 // of ICMP
	switch x.parsed.Proto {
	case wire.ProtoTCP:
		at = 16
	case wire.ProtoUDP:
		at = 6
	}
	return x.parsed.B[int(x.parsed.L4)+at:][:2]
}

// upperLen returns how many bytes the checksum of the transport header covers.
func (x *examined) upperLen() int {
	if x.parsed.Proto == wire.ProtoUDP {
		return int(x.parsed.UDP().Length())
	}
	return len(x.parsed.B) - int(x.parsed.L4)
}

// pseudoHeader returns the sum of the pseudo-header, for so many bytes.
func (x *examined) pseudoHeader(length int) uint64 {
	if x.parsed.Flags&wire.V6 != 0 {
		ip := x.parsed.IPv6()
		return wire.PseudoHeader6(ip.Src(), ip.Dst(), x.parsed.Proto, uint32(length))
	}
	ip := x.parsed.IPv4()
	return wire.PseudoHeader4(ip.Src(), ip.Dst(), x.parsed.Proto, uint16(length))
}

// sender returns whom the packet is from.
func (x *examined) sender() (s sender) {
	if x.whole {
		s.proto = x.parsed.Proto
	}
	if b := x.bytes; b[0]>>4 == 6 {
		s.addr = netip.AddrFrom16([16]byte(b[8:24]))
	} else {
		s.addr = netip.AddrFrom4([4]byte(b[12:16]))
	}
	return s
}
