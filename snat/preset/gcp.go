package preset

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// GCPCloudNAT is GCP's Cloud NAT with static port allocation: 64,512 ports of an
// address for TCP and again for UDP, of which each instance owns PortsPerInstance
// (64 by default, at least 2, at most 65,536, rounded up to a power of two and here
// to 8); endpoint-dependent mapping for UDP too, as without EIM; established
// connections 1,200 s (settable), half-open and half-closed ones and UDP 30 s; a
// port is kept from its destination for 120 s after the second FIN or a RST;
// nothing is ever reset; ICMP is carried, echo for 30 s (GCP: addresses and ports,
// troubleshoot configuration). Fragments are dropped.
//
// Our choice: blocks ascend from 1024, the first address is filled first and a
// block continues on the next; a random port for every flow, so that a host which asks
// several servers for its address is told several; when the second FIN is
// acknowledged, the 120 s begin anew; of ICMP echo, with identifiers of the ports'
// numbers for each destination, and errors about flows. Dynamic allocation, EIM and
// NAT rules are not modelled. Too few addresses for all instances is an
// error, where GCP would leave the last ones without ports.
func GCPCloudNAT(s Site) (snat.Config, error) {
	const name = nameGCPCloudNAT
	c, err := s.begin(name, unlimited, time.Second, flow.MaxTimeout, time.Second)
	if err != nil {
		return c, err
	}
	if n := s.PortsPerInstance; n != 0 && (n < 2 || n > 65536) {
		return snat.Config{}, refuse(name, "PortsPerInstance", n, flow.ErrOutOfRange, "2..65536")
	}
	ports := snat.BlockSize
	for ports < cmp.Or(s.PortsPerInstance, 64) {
		ports *= 2
	}
	if err := s.preallocate(&c, name, ports, 64_512); err != nil {
		return snat.Config{}, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, 1200*time.Second)
	const transitory, timeWait = 30 * time.Second, 120 * time.Second
	c.Timeouts = flow.Timeouts{
		TCPOpening: transitory, TCPHalfClosed: transitory, TCPClosing: timeWait, TCPTimeWait: timeWait, TCPReset: timeWait,
		UDP: transitory, UDPReplied: transitory, ICMP: transitory,
	}
	c.ICMP = snat.ICMP{Queries: true, QueryPerDestination: true, AllowShortTimeout: true, Errors: true}
	c.Ports = &snat.Owned{
		UDP:        snat.Behavior{Mapping: snat.AddressAndPortDependent, Share: snat.SharePerDestination},
		Allocation: snat.Allocation{Choice: snat.RandomPort},
	}
	return c, nil
}
