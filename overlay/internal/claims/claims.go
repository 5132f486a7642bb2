// Package claims says who has which node port and which address of a cluster, and chooses free ones.
//
// [Claims] is the answer at one moment: the caller fills it with what there is and asks it
// for what is to come; it keeps nothing else, has no lock, and is for one goroutine at a
// time. [Claims.NextAddr] only reads.
//
// It refuses to know what ports and addresses are for.
//
// Source: the Kubernetes document "Service", about nodePort and about how addresses are chosen.
package claims

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The node ports (Kubernetes: service-node-port-range).
const FirstNodePort, LastNodePort = 30000, 32767

// namedPorts is how many node ports, the first ones, are left to Services that name one
// (Kubernetes: min(max(16, size/32), 128) of the range).
const namedPorts = 86

// Port is a port of nodes.
type Port struct {
	Protocol snat.Protocol // TCP or UDP
	Number   uint16
}

// Claims are who has what. The zero value has nothing.
type Claims struct {
	Addrs map[netip.Addr]bool
	ports map[Port]string
}

// AddAddrs notes addresses that somebody has.
func (c *Claims) AddAddrs(addrs ...netip.Addr) {
	if c.Addrs == nil {
		c.Addrs = make(map[netip.Addr]bool)
	}
	for _, a := range addrs {
		c.Addrs[a] = true
	}
}

// AddPort notes that somebody, such as `Service "web"`, has a port. Number 0 is none.
func (c *Claims) AddPort(p Port, who string) {
	if c.ports == nil {
		c.ports = make(map[Port]string)
	}
	if p.Number != 0 {
		c.ports[p] = who
	}
}

// Claim is AddPort for a port that may be another's: that is a problem of the field path.
func (c *Claims) Claim(l *problems.List, path string, p Port, who string) {
	if of, ok := c.ports[p]; ok {
		l.Add(path, p.Number, flow.ErrOverlap, "%s has it", of)
	}
	c.AddPort(p, who)
}

// NextPort returns the lowest free node port of those that nobody should name, else of the
// others; somebody has it from now on. The error wraps [flow.ErrTooMany].
func (c *Claims) NextPort(protocol snat.Protocol, who string) (uint16, error) {
	const all = LastNodePort - FirstNodePort + 1
	for i := range all {
		p := Port{protocol, uint16(FirstNodePort + (namedPorts+i)%all)}
		if _, ok := c.ports[p]; !ok {
			c.AddPort(p, who)
			return p.Number, nil
		}
	}
	return 0, fmt.Errorf("NodePort: %w: none of %d..%d is free", flow.ErrTooMany, FirstNodePort, LastNodePort)
}

// NextAddr returns the next address of a range, or of its first 2^20 addresses, that nobody has
// and that is not the one that is kept: in the upper half, and in the lower one if that is full.
// The first two are never given, nor the last one of IPv4. The error wraps [flow.ErrTooMany].
func (c *Claims) NextAddr(cidr netip.Prefix, kept netip.Addr) (netip.Addr, error) {
	cidr = cidr.Masked()
	size := uint64(1) << min(20, cidr.Addr().BitLen()-cidr.Bits())
	half := max(2, size/2)
	for i := uint64(2); i < size; i++ {
		at := half + i - 2
		if at >= size {
			at -= size - 2
		}
		a := prefixes.Plus(cidr.Addr(), at)
		if last := a.Is4() && !cidr.Contains(a.Next()); !last && !c.Addrs[a] && a != kept {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("ClusterIPs: %w: no free address in %v", flow.ErrTooMany, cidr)
}
