package ports

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// Behavior says how the flows of a protocol get their ports.
type Behavior struct {
	Mapping Mapping
	Share   Share

	// PerFlow says that a session is its own mapping: there are no records.
	PerFlow bool

	// Claim is the granularity of claims: that of sharing, but finer where the
	// filter has to find the mapping by a remote address.
	Claim Share

	Opens bool // sessions may begin outside
}

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
	return scopeOf(inst, t, b.Share)
}

// claimScope returns the scope that a session's mapping has a claim for.
func (b *Behavior) claimScope(inst *Instance, t *Tuple) destinations.Scope {
	return scopeOf(inst, t, b.Claim)
}

// scopeOf returns as much of a tuple's remote as matters to a Share.
func scopeOf(inst *Instance, t *Tuple, share Share) destinations.Scope {
	s := destinations.Scope{Instance: inst.Index, Proto: t.Proto, Family: t.Family}
	switch share {
	case PerAddress:
		s.Addr = t.Remote
	case PerDestination:
		s.Addr, s.Port = t.Remote, t.DestPort
	case Exclusive:
	default:
		panic(fmt.Sprintf("ports: unhandled %v", share))
	}
	return s
}

// Mapping says for how much of a destination an inside socket keeps its port.
type Mapping uint8

// The mappings, from the coarsest.
const (
	_ Mapping = iota
	EndpointIndependent
	AddressDependent
	AddressAndPortDependent
	PerConnection
)

// Share says when mappings of an instance may use the same port.
type Share uint8

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
