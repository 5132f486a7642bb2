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

// scope returns the scope of a tuple's remote for sharing ports.
func (b *Behavior) scope(inst *Instance, t *Tuple) destinations.Scope {
	return scopeIn(inst.Index, t, b.Sharing)
}

// claimScope returns the scope that a session's mapping has a claim for.
func (b *Behavior) claimScope(inst *Instance, t *Tuple) destinations.Scope {
	return scopeIn(inst.Index, t, b.Claim)
}

// scopeIn returns as much of a tuple's remote as matters to a Sharing, for the instance
// with an index.
func scopeIn(index uint32, t *Tuple, sharing Sharing) destinations.Scope {
	s := destinations.Scope{Instance: index, Proto: t.Proto, Family: t.Family}
	switch sharing {
	case PerAddress:
		s.Addr = t.Remote
	case PerDestination:
		s.Addr, s.Port = t.Remote, t.DestPort
	case Exclusive:
	default:
		panic(fmt.Sprintf("ports: unhandled %v", sharing))
	}
	return s
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
