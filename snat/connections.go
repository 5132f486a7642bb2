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
	for p, c := range n.plane.Counted().Connections {
		all[p].Successful, all[p].Failed, all[p].Active = c.Ported, c.Refused, int(c.Created-c.Ended)
	}
	if !n.queries {
		return all[:ports.NumProtocols]
	}
	return all[:]
}
