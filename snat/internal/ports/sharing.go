package ports

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/mappings"
)

// key names the mapping of a tuple's inside socket towards its remote.
func (b *Behavior) key(inst *Instance, t *Tuple) mappings.Key {
	k := mappings.Key{Instance: inst.Index, Port: t.InsidePort, Proto: t.Proto, Family: t.Family, Addr: t.Inside}
	switch b.Mapping {
	case EndpointIndependent:
	case AddressDependent:
		k.Peer.Addr = t.Remote
	case AddressAndPortDependent, PerConnection:
		k.Peer = mappings.Peer{Addr: t.Remote, Port: t.DestPort}
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

// plain reports whether mappings are for all remotes, and none of them begins sessions.
func (b *Behavior) plain() bool { return b.Mapping == EndpointIndependent && !b.Opens }
