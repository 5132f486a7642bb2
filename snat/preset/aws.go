package preset

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// AWSNATGateway is an AWS NAT gateway: 1..8 addresses with ports 1024-65535, of
// which 55,000 can be in use towards one destination; an idle timeout of 350 s,
// fixed, that ends flows silently, after which a host on the inside that goes on
// gets a RST (AWS: NAT gateways, troubleshoot NAT gateways). ICMP is carried, and of
// fragments those of UDP.
//
// Our choice: the timeout holds for UDP, echo, half-open and half-closed connections
// too; 60 s after FIN from both ends or RST; a random port on a random address;
// no limit on all flows together; of ICMP echo, with identifiers of the ports'
// numbers, and errors about flows.
func AWSNATGateway(s Site) (snat.Config, error) {
	const idle = 350 * time.Second
	c, err := s.begin(nameAWSNATGateway, 8, idle, idle, time.Second)
	if err != nil {
		return c, err
	}
	c.IdleTimeout = idle
	c.Ports = &snat.Shared{Frontends: s.Frontends, FlowsPerDestination: 55_000, MaxFlows: 1<<31 - 1}
	c.Timeouts = flow.Timeouts{
		TCPOpening: idle, TCPHalfClosed: idle,
		TCPClosing: time.Minute, TCPTimeWait: time.Minute, TCPReset: time.Minute, ICMP: idle,
	}
	c.ResetUnknown = snat.ResetInside
	c.ICMP = snat.ICMP{Queries: true, Errors: true}
	c.Fragments.Mode = snat.FragmentsUDP
	return c, nil
}
