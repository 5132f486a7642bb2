// Places: at which node an address is, for every packet of a Service.

package overlay

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
)

// places are the nodes of addresses plus one, of their own and by pod block. They say what
// state.nodeOf says, and faster.
type places struct {
	hosts4, blocks4 prefixes.Addrs4
	hosts6, blocks6 prefixes.Addrs6
}

// add adds a node that has its Index.
func (p *places) add(n *Node) {
	is := uint32(n.Index) + 1
	for f, a := range n.Addrs {
		if block := n.PodBlocks[f].Addr(); family(f) == ipv4 {
			p.hosts4.Put(flow.Addr4(a), is)
			p.blocks4.Put(flow.Addr4(block)>>(32-podBlockBits[ipv4]), is)
		} else {
			p.hosts6.Put(flow.Addr6(a), is)
			p.blocks6.Put(podBlock6(flow.Addr6(block)), is)
		}
	}
}

// podBlock6 returns the address of the pod block of IPv6 that an address would be in.
func podBlock6(a [2]uint64) [2]uint64 {
	a[1] &^= 1<<(128-podBlockBits[ipv6]) - 1
	return a
}

// of returns the node at which an address of a packet is, or -1, and whether it is the
// node's own. The offsets are those of the address in the headers; the packet has it.
func (p *places) of(pkt []byte, at4, at6 int) (node int, host bool) {
	if pkt[0]>>4 == 4 {
		a := binary.BigEndian.Uint32(pkt[at4:])
		if is := p.hosts4.Get(a); is != 0 {
			return int(is) - 1, true
		}
		return int(p.blocks4.Get(a>>(32-podBlockBits[ipv4]))) - 1, false
	}
	a := [2]uint64{binary.BigEndian.Uint64(pkt[at6:]), binary.BigEndian.Uint64(pkt[at6+8:])}
	if is := p.hosts6.Get(a); is != 0 {
		return int(is) - 1, true
	}
	return int(p.blocks6.Get(podBlock6(a))) - 1, false
}
