package rendezvous

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Fields says which fields of a packet its hash covers.
type Fields uint8

// The choices of fields, with the names of Azure's session distribution.
const (
	FiveTuple        Fields = iota // addresses, ports and protocol: flows are distributed
	SourceIP                       // addresses: a client stays with its member
	SourceIPProtocol               // addresses and protocol
)

// Name returns the name of a member that is known by a text: its XXH64.
func Name(text string) uint64 { return xxhash.Sum64String(text) }

// Hash4 returns the hash of a packet as its sender wrote it; see the package comment
// for the bytes. It panics if f is none of the constants.
func Hash4(key uint64, f Fields, k *flow.Key) uint64 {
	var b [8 + 8 + 8]byte
	last, n := rest(f, k.SrcPort, k.DstPort, k.Proto())
	binary.BigEndian.PutUint64(b[:], key)
	binary.BigEndian.PutUint64(b[8:], uint64(k.Src)<<32|uint64(k.Dst)) // in one piece, so that it can be read in one
	binary.BigEndian.PutUint64(b[16:], last)
	return xxhash.Sum64(b[:16+n])
}

// Hash6 is Hash4 for IPv6.
func Hash6(key uint64, f Fields, k *flow.Key6) uint64 {
	var b [8 + 32 + 8]byte
	last, n := rest(f, k.SrcPort, k.DstPort, k.Proto())
	binary.BigEndian.PutUint64(b[:], key)
	binary.BigEndian.PutUint64(b[8:], k.Src[0])
	binary.BigEndian.PutUint64(b[16:], k.Src[1])
	binary.BigEndian.PutUint64(b[24:], k.Dst[0])
	binary.BigEndian.PutUint64(b[32:], k.Dst[1])
	binary.BigEndian.PutUint64(b[40:], last)
	return xxhash.Sum64(b[:40+n])
}

// rest returns what follows the addresses, from the upper end, and how many bytes that
// is.
func rest(f Fields, src, dst uint16, proto uint8) (last uint64, n int) {
	switch f {
	case FiveTuple:
		return uint64(src)<<48 | uint64(dst)<<32 | uint64(proto)<<24, 5
	case SourceIP:
		return 0, 0
	case SourceIPProtocol:
		return uint64(proto) << 56, 1
	}
	panic(fmt.Sprintf("rendezvous: unhandled Fields %d", f))
}
