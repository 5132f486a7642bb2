package snat

import "github.com/seed-a61be3fe/natplane/snat/internal/ports"

// ConnectionStats is what became of new flows of one protocol.
type ConnectionStats struct {
	Protocol   Protocol // TCP, UDP or Query
	Successful uint64   // flows that got an outside port
	Failed     uint64   // packets refused for want of a port; every SYN that is sent again counts
	Active     int      // sessions that have not ended; a connection that holds its port after FIN or RST has not
}

// Connections returns the connections by protocol, TCP before UDP, and last queries
// if they are carried. The sums are those of Stats: ConnectionsSuccessful,
// ConnectionsFailed and SessionsActive. Cost: one lock per shard.
func (n *NAT) Connections() []ConnectionStats {
	all := [ports.NumPools]ConnectionStats{{Protocol: TCP}, {Protocol: UDP}, {Protocol: Query}}
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		for p, c := range sh.counters.connections {
			all[p].Successful += c.ported
			all[p].Failed += c.refused
			all[p].Active += int(c.created - c.ended)
		}
		sh.Unlock()
	}
	if !n.messages.Queries {
		return all[:ports.NumProtocols]
	}
	return all[:]
}
