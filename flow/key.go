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
	Src, Dst         uint32 // IPv4 addresses
	SrcPort, DstPort uint16 // ICMP echo: the identifier, in both
	VNIProto         uint32 // VNI<<8 | IP protocol
}

// Key6 is the directed IPv6 5-tuple of a packet plus its overlay VNI.
type Key6 struct {
	Src, Dst         [2]uint64 // big-endian halves of the address
	SrcPort, DstPort uint16    // ICMPv6 echo: the identifier, in both
	VNIProto         uint32    // VNI<<8 | IP protocol
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
