package flow

import (
	"fmt"
	"net/netip"
	"unsafe"
)

// Key is the directed IPv4 5-tuple of a packet plus its overlay VNI, in host
// byte order. It is comparable, has no pointers and no padding: 16 bytes that
// are hashed and compared as two words.
type Key struct {
	Src, Dst         uint32
	SrcPort, DstPort uint16 // ICMP echo: the identifier, in both
	VNIProto         uint32 // VNI<<8 | IP protocol
}

// Key6 is the directed IPv6 5-tuple of a packet plus its overlay VNI.
type Key6 struct {
	Src, Dst         [2]uint64 // big-endian halves of the address
	SrcPort, DstPort uint16
	VNIProto         uint32 // VNI<<8 | IP protocol
}

var (
	_ [16]byte = [unsafe.Sizeof(Key{})]byte{}  // does not compile if Key grows
	_ [40]byte = [unsafe.Sizeof(Key6{})]byte{} // does not compile if Key6 grows
)

// MaxVNI is the largest overlay network identifier of a key (RFC 7348: 24 bits).
const MaxVNI = 1<<24 - 1

// MakeKey returns the Key of a packet from src to dst. It panics if an address
// is not IPv4 (or IPv4-mapped), or if vni exceeds [MaxVNI].
func MakeKey(src, dst netip.AddrPort, proto uint8, vni uint32) Key {
	return Key{
		Src: Addr4(src.Addr()), Dst: Addr4(dst.Addr()),
		SrcPort: src.Port(), DstPort: dst.Port(),
		VNIProto: vniProto(vni, proto),
	}
}

// MakeKey6 returns the Key6 of a packet from src to dst. It panics if vni
// exceeds [MaxVNI].
func MakeKey6(src, dst netip.AddrPort, proto uint8, vni uint32) Key6 {
	return Key6{
		Src: Addr6(src.Addr()), Dst: Addr6(dst.Addr()),
		SrcPort: src.Port(), DstPort: dst.Port(),
		VNIProto: vniProto(vni, proto),
	}
}

func vniProto(vni uint32, proto uint8) uint32 {
	if vni > MaxVNI {
		panic(fmt.Sprintf("flow: VNI %d exceeds %d", vni, MaxVNI))
	}
	return vni<<8 | uint32(proto)
}

// Addr4 packs an IPv4 address in host byte order. It panics on an IPv6 address.
func Addr4(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// Addr6 packs an address as two big-endian halves.
func Addr6(a netip.Addr) [2]uint64 {
	b := a.As16()
	var h [2]uint64
	for i, c := range b {
		h[i/8] = h[i/8]<<8 | uint64(c)
	}
	return h
}

// NetAddr4 is the inverse of [Addr4].
func NetAddr4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// NetAddr6 is the inverse of [Addr6].
func NetAddr6(a [2]uint64) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(a[i/8] >> (56 - 8*(i%8)))
	}
	return netip.AddrFrom16(b)
}

// IsHost reports whether a can be the address of a single host on the Internet or in
// a private network, as a translator's own addresses and those behind it must be. It
// cannot be invalid, have a zone, be IPv4 in the form of IPv6, unspecified, loopback,
// link-local or multicast, nor be in 0/8 or 240/4, broadcast included (RFC 1122
// section 3.2.1.3, RFC 4291 section 2.5, RFC 6890). Addresses for documentation are
// like any other.
func IsHost(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return false
	}
	return !a.Is4() || a.As4()[0] > 0 && a.As4()[0] < 240
}

// Proto returns the IP protocol of k.
func (k Key) Proto() uint8 { return uint8(k.VNIProto) }

// VNI returns the overlay network identifier of k.
func (k Key) VNI() uint32 { return k.VNIProto >> 8 }

// Reverse returns the key of the packets that answer k.
func (k Key) Reverse() Key {
	return Key{Src: k.Dst, Dst: k.Src, SrcPort: k.DstPort, DstPort: k.SrcPort, VNIProto: k.VNIProto}
}

// Proto returns the IP protocol of k.
func (k Key6) Proto() uint8 { return uint8(k.VNIProto) }

// VNI returns the overlay network identifier of k.
func (k Key6) VNI() uint32 { return k.VNIProto >> 8 }

// Reverse returns the key of the packets that answer k.
func (k Key6) Reverse() Key6 {
	return Key6{Src: k.Dst, Dst: k.Src, SrcPort: k.DstPort, DstPort: k.SrcPort, VNIProto: k.VNIProto}
}

// String formats k as "proto src:port > dst:port".
func (k Key) String() string {
	return fmt.Sprintf("%d %v:%d > %v:%d", k.Proto(), NetAddr4(k.Src), k.SrcPort, NetAddr4(k.Dst), k.DstPort)
}

// String formats k as "proto [src]:port > [dst]:port".
func (k Key6) String() string {
	return fmt.Sprintf("%d [%v]:%d > [%v]:%d", k.Proto(), NetAddr6(k.Src), k.SrcPort, NetAddr6(k.Dst), k.DstPort)
}
