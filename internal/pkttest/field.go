package pkttest

// Fields: one vocabulary to build packets with and to check them.

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/gopacket/layers"
)

// Field is one property of a packet. Given to a builder it is set, given to
// Check it is demanded.
type Field struct {
	name  string
	set   func(*packet)              // nil: can be checked only
	check func(*packet) (bad string) // "" if the packet has the property
}

// value is a field held in one place of the packet; at returns nil where the
// packet has no such place.
func value[T comparable](name string, want T, at func(*packet) *T) Field {
	return Field{
		name: name,
		set: func(p *packet) {
			v := at(p)
			if v == nil {
				panic(fmt.Sprintf("pkttest: %v has no %s", p.upper, name))
			}
			*v = want
		},
		check: func(p *packet) string {
			switch v := at(p); {
			case v == nil:
				return "has no " + name
			case *v != want:
				return fmt.Sprintf("%s is %v, want %v", name, *v, want)
			}
			return ""
		},
	}
}

// tcpValue is a value of TCP packets.
func tcpValue[T comparable](name string, want T, at func(*layers.TCP) *T) Field {
	return value(name, want, func(p *packet) *T {
		if p.upper != layers.IPProtocolTCP {
			return nil
		}
		return at(&p.tcp)
	})
}

// Src is the source address, and the source port if s has one.
func Src(s string) Field {
	return address("source", s, func(p *packet) *netip.AddrPort { return &p.src })
}

// Dst is the destination address, and the destination port if s has one.
func Dst(s string) Field {
	return address("destination", s, func(p *packet) *netip.AddrPort { return &p.dst })
}

func address(name, s string, at func(*packet) *netip.AddrPort) Field {
	want := endpoint(s)
	return Field{
		name: name,
		set:  func(p *packet) { *at(p) = want },
		check: func(p *packet) string {
			got := *at(p)
			if want.Port() == 0 {
				got = netip.AddrPortFrom(got.Addr(), 0)
			}
			if got != want {
				return fmt.Sprintf("%s is %v, want %s", name, *at(p), s)
			}
			return ""
		},
	}
}

// TTL is the time to live or hop limit.
func TTL(n uint8) Field {
	return value("TTL", n, func(p *packet) *uint8 {
		if p.v6() {
			return &p.ip6.HopLimit
		}
		return &p.ip4.TTL
	})
}

// TOS is the type of service or traffic class: DSCP in the upper six bits, ECN
// in the lower two.
func TOS(n uint8) Field {
	return value("TOS", n, func(p *packet) *uint8 {
		if p.v6() {
			return &p.ip6.TrafficClass
		}
		return &p.ip4.TOS
	})
}

// ID is the IPv4 identification.
func ID(n uint16) Field {
	return value("ID", n, func(p *packet) *uint16 {
		if p.v6() {
			return nil
		}
		return &p.ip4.Id
	})
}

// FlowLabel is the 20-bit IPv6 flow label.
func FlowLabel(n uint32) Field {
	return value("flow label", n, func(p *packet) *uint32 {
		if !p.v6() {
			return nil
		}
		return &p.ip6.FlowLabel
	})
}

// DF is whether IPv4 forbids fragmentation. Nothing is set in IPv6, which always does.
func DF(on bool) Field {
	return Field{
		name: "DF",
		set: func(p *packet) {
			p.ip4.Flags &^= layers.IPv4DontFragment
			if on {
				p.ip4.Flags |= layers.IPv4DontFragment
			}
		},
		check: func(p *packet) string {
			if got := p.v6() || p.ip4.Flags&layers.IPv4DontFragment != 0; got != on {
				return fmt.Sprintf("DF is %v, want %v", got, on)
			}
			return ""
		},
	}
}

// Payload is the data after the upper-layer header.
func Payload(s string) Field {
	return Field{
		name: "payload",
		set:  func(p *packet) { p.payload = []byte(s) },
		check: func(p *packet) string {
			if string(p.payload) != s {
				return fmt.Sprintf("payload is %q, want %q", p.payload, s)
			}
			return ""
		},
	}
}

// Seq is the TCP sequence number.
func Seq(n uint32) Field {
	return tcpValue("seq", n, func(t *layers.TCP) *uint32 { return &t.Seq })
}

// Ack is the TCP acknowledgment number. It does not set the ACK flag.
func Ack(n uint32) Field {
	return tcpValue("ack", n, func(t *layers.TCP) *uint32 { return &t.Ack })
}

// Window is the unscaled TCP window.
func Window(n uint16) Field {
	return tcpValue("window", n, func(t *layers.TCP) *uint16 { return &t.Window })
}

// Urgent is the TCP urgent pointer.
func Urgent(n uint16) Field {
	return tcpValue("urgent pointer", n, func(t *layers.TCP) *uint16 { return &t.Urgent })
}

// TCP flags. Each sets one flag, or demands it whatever the others are.
var (
	SYN = flag("SYN", func(t *layers.TCP) *bool { return &t.SYN })
	FIN = flag("FIN", func(t *layers.TCP) *bool { return &t.FIN })
	RST = flag("RST", func(t *layers.TCP) *bool { return &t.RST })
	PSH = flag("PSH", func(t *layers.TCP) *bool { return &t.PSH })
	ACK = flag("ACK", func(t *layers.TCP) *bool { return &t.ACK })
	URG = flag("URG", func(t *layers.TCP) *bool { return &t.URG })
	ECE = flag("ECE", func(t *layers.TCP) *bool { return &t.ECE })
	CWR = flag("CWR", func(t *layers.TCP) *bool { return &t.CWR })
)

func flag(name string, at func(*layers.TCP) *bool) Field { return tcpValue(name, true, at) }

// TCPFlags is the whole set of TCP flags, as first letters in the order SFRPAUEC
// that String prints: "S", "SA", "A", "FA", "" for none.
func TCPFlags(letters string) Field {
	return Field{
		name: "TCP flags",
		set: func(p *packet) {
			for _, f := range flagLetters {
				*f.at(&p.tcp) = strings.ContainsRune(letters, f.letter)
			}
			if got := flagString(&p.tcp); got != letters {
				panic(fmt.Sprintf("pkttest: TCP flags %q: only SFRPAUEC, in this order", letters))
			}
		},
		check: func(p *packet) string {
			if got := flagString(&p.tcp); p.upper != layers.IPProtocolTCP || got != letters {
				return fmt.Sprintf("TCP flags are %q, want %q", got, letters)
			}
			return ""
		},
	}
}

var flagLetters = []struct {
	letter rune
	at     func(*layers.TCP) *bool
}{
	{'S', func(t *layers.TCP) *bool { return &t.SYN }},
	{'F', func(t *layers.TCP) *bool { return &t.FIN }},
	{'R', func(t *layers.TCP) *bool { return &t.RST }},
	{'P', func(t *layers.TCP) *bool { return &t.PSH }},
	{'A', func(t *layers.TCP) *bool { return &t.ACK }},
	{'U', func(t *layers.TCP) *bool { return &t.URG }},
	{'E', func(t *layers.TCP) *bool { return &t.ECE }},
	{'C', func(t *layers.TCP) *bool { return &t.CWR }},
}

func flagString(t *layers.TCP) string {
	var s strings.Builder
	for _, f := range flagLetters {
		if *f.at(t) {
			s.WriteRune(f.letter)
		}
	}
	return s.String()
}

// MSS is the TCP maximum segment size option, in bytes.
func MSS(n uint16) Field {
	return tcpOption("MSS", layers.TCPOptionKindMSS, []byte{byte(n >> 8), byte(n)})
}

// WScale is the TCP window scale option.
func WScale(shift uint8) Field {
	return tcpOption("window scale", layers.TCPOptionKindWindowScale, []byte{shift})
}

func tcpOption(name string, kind layers.TCPOptionKind, data []byte) Field {
	return Field{
		name: name,
		set: func(p *packet) {
			p.tcp.Options = append(p.tcp.Options,
				layers.TCPOption{OptionType: kind, OptionLength: uint8(2 + len(data)), OptionData: data})
		},
		check: func(p *packet) string {
			for _, o := range p.tcp.Options {
				if o.OptionType == kind && bytes.Equal(o.OptionData, data) {
					return ""
				}
			}
			return fmt.Sprintf("no TCP option %s with % x", name, data)
		},
	}
}

// IPOptions is the option part of the IPv4 header, padded to whole words with
// zeros. It may be malformed.
func IPOptions(opts ...byte) Field {
	opts = append(slices.Clone(opts), make([]byte, -len(opts)&3)...)
	return Field{
		name: "IP options",
		set: func(p *packet) {
			p.edits = append(p.edits, func(b []byte) []byte { return insertIPOptions(b, opts) })
		},
		check: func(p *packet) string {
			if got := p.ip4.Contents[20:]; !bytes.Equal(got, opts) {
				return fmt.Sprintf("IP options are % x, want % x", got, opts)
			}
			return ""
		},
	}
}

// Extension puts an IPv6 extension header of the given type behind the fixed
// header; the last one given comes first. data is what follows the two bytes
// of type and length, padded with zeros to a multiple of 8 bytes in all. It can
// only be set.
func Extension(kind uint8, data ...byte) Field {
	header := append([]byte{0, 0}, data...)
	header = append(header, make([]byte, -len(header)&7)...)
	if kind != fragmentHeader {
		header[1] = uint8(len(header)/8 - 1)
	}
	return edit("extension header", func(b []byte) []byte { return insertExtension(b, kind, header) })
}

// Patch overwrites bytes of the finished packet from offset on; checksums stay
// as they were. It can only be set.
func Patch(offset int, data ...byte) Field {
	return edit("patch", func(b []byte) []byte {
		copy(b[offset:offset+len(data)], data)
		return b
	})
}

// NoChecksum sends UDP without checksum: zero, legal over IPv4.
func NoChecksum() Field {
	return checksum("no checksum", func(sum []byte) { sum[0], sum[1] = 0, 0 }, func(p *packet) string {
		if sum := p.checksum(); sum == nil || sum[0]|sum[1] != 0 {
			return fmt.Sprintf("checksum is % x, want none", sum)
		}
		return ""
	})
}

// BadChecksum is a wrong upper-layer checksum.
func BadChecksum() Field {
	return checksum("bad checksum", func(sum []byte) { sum[0] ^= 0x55; sum[1] ^= 0xaa }, func(p *packet) string {
		if p.verifyUpper() == "" {
			return "upper-layer checksum is right, want it wrong"
		}
		return ""
	})
}

// checksum is a field that changes the upper-layer checksum.
func checksum(name string, change func(sum []byte), check func(*packet) string) Field {
	f := edit(name, func(b []byte) []byte {
		p, err := decode(b)
		if err != nil {
			panic("pkttest: " + err.Error())
		}
		change(p.checksum())
		return b
	})
	f.check = check
	return f
}

// edit is a field that changes the bytes of the finished packet.
func edit(name string, do func([]byte) []byte) Field {
	return Field{
		name:  name,
		set:   func(p *packet) { p.edits = append(p.edits, do) },
		check: func(*packet) string { return name + " can be set but not checked" },
	}
}

// ChecksumsOK demands that the IPv4 header checksum is right, and the upper-layer
// checksum too, which is not looked at in fragments. It can only be checked.
func ChecksumsOK() Field {
	return Field{name: "checksums", check: func(p *packet) string {
		if bad := p.verifyIPv4(); bad != "" {
			return bad
		}
		return p.verifyUpper()
	}}
}

// FragmentAt demands a fragment with its payload at offset, in bytes, and
// whether more follow. It can only be checked; Fragments builds fragments.
func FragmentAt(id uint32, offset int, more bool) Field {
	want := fragment{id, offset, more}
	return Field{name: "fragment", check: func(p *packet) string {
		if p.fragment == nil {
			return "is no fragment"
		}
		if *p.fragment != want {
			return fmt.Sprintf("fragment is %+v, want %+v", *p.fragment, want)
		}
		return ""
	}}
}

// EchoID is the identifier of an ICMP or ICMPv6 echo.
func EchoID(n uint16) Field {
	return Field{
		name: "echo identifier",
		set:  func(p *packet) { p.icmp[4], p.icmp[5] = byte(n>>8), byte(n) },
		check: func(p *packet) string {
			if got := uint16(p.icmp[4])<<8 | uint16(p.icmp[5]); !p.isICMP() || got != n {
				return fmt.Sprintf("echo identifier is %d, want %d", got, n)
			}
			return ""
		},
	}
}

// ICMPType is type and code of an ICMP or ICMPv6 message.
func ICMPType(typ, code uint8) Field {
	return Field{
		name: "ICMP type",
		set:  func(p *packet) { p.icmp[0], p.icmp[1] = typ, code },
		check: func(p *packet) string {
			if !p.isICMP() || p.icmp[0] != typ || p.icmp[1] != code {
				return fmt.Sprintf("is %v type %d code %d, want ICMP type %d code %d", p.upper, p.icmp[0], p.icmp[1], typ, code)
			}
			return ""
		},
	}
}
