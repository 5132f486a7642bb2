package ports

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// key names the mapping of a tuple's inside socket towards its remote.
func (b *Behavior) key(inst *Instance, t *Tuple) mappingKey {
	k := mappingKey{instance: inst.Index, port: t.InsidePort, proto: t.Proto, family: t.Family, addr: t.Inside}
	switch b.Mapping {
	case EndpointIndependent:
	case AddressDependent:
		k.peer.addr = t.Remote
	case AddressAndPortDependent, PerConnection:
		k.peer = peer{addr: t.Remote, port: t.DestPort}
	default:
		panic(fmt.Sprintf("ports: unhandled %v", b.Mapping))
	}
	return k
}

// claimScope returns the scope that a session's mapping has a claim for.
func (b *Behavior) claimScope(inst *Instance, t *Tuple) (s destinations.Scope) {
	scopeIn(&s, inst.Index, t, b.Claim)
	return s
}

// scopeIn makes s, which is zero, as much of a tuple's remote as matters to a Sharing, for
// the instance with an index. It writes s where it stays: a copy would read what was just
// written in wider pieces, which stalls.
func scopeIn(s *destinations.Scope, index uint32, t *Tuple, sharing Sharing) {
	s.Instance, s.Proto, s.Family = index, t.Proto, t.Family
	switch sharing {
	case PerAddress:
		s.Addr[0], s.Addr[1] = t.Remote[0], t.Remote[1]
	case PerDestination:
		s.Addr[0], s.Addr[1], s.Port = t.Remote[0], t.Remote[1], t.DestPort
	case Exclusive:
	default:
		panic(fmt.Sprintf("ports: unhandled %v", sharing))
	}
}

// mappingKey names a mapping.
type mappingKey struct {
	instance uint32
	port     uint16
	proto    uint8
	family   uint8
	addr     [2]uint64
	peer     peer
}

// peer is the part of a remote that a mapping is for; what it leaves out is zero.
type peer struct {
	addr  [2]uint64
	port  uint16
	apart bool    // addr and port are a scope, for which the socket's usual mapping could not be used
	_     [5]byte // the same size everywhere
}
