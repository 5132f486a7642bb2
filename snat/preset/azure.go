package preset

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// AzureLB is an outbound rule of an Azure Standard Load Balancer: 64,000 ports of
// a frontend for TCP and again for UDP, preallocated; the lowest usable port; an
// idle timeout of 4 minutes (4..120, whole minutes) that ends flows silently, unless
// EnableTCPReset is set; ports held for 240 s after FIN and 15 s after RST
// (Azure: outbound connections 2019-20, outbound rules, TCP reset). UDP ports
// are shared between destination addresses, as documented since 2022.
//
// PortsPerInstance is a multiple of 8 and by default 1,024, what Azure gives each
// of up to 50 instances; package lb knows the other tiers and the ports that
// rules take away. It is the total over all frontends. Our choice: the first
// frontend is used up first, ports begin at 1024, half-open connections last 30 s.
func AzureLB(s Site) (snat.Config, error) {
	return azureLB(nameAzureLB, s)
}

// azureLB is AzureLB for a preset of a name.
func azureLB(name string, s Site) (snat.Config, error) {
	c, err := s.begin(name, 600, 4*time.Minute, 120*time.Minute, time.Minute)
	if err != nil {
		return c, err
	}
	ports := cmp.Or(s.PortsPerInstance, 1024)
	if ports < snat.BlockSize || ports > 64_000 || ports%snat.BlockSize != 0 {
		return snat.Config{}, refuse(name, "PortsPerInstance", ports, flow.ErrOutOfRange, "multiples of 8 from 8 to 64,000")
	}
	if err := s.preallocate(&c, name, ports, 64_000); err != nil {
		return snat.Config{}, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, snat.DefaultIdleTimeout)
	return c, nil
}

// AzureLB2019 is AzureLB as documented in 2019 and 2020: a UDP port is never
// shared, so UDP runs out of ports sooner (Azure: outbound connections 2019-20).
func AzureLB2019(s Site) (snat.Config, error) {
	c, err := azureLB(nameAzureLB2019, s)
	c.Ports = &snat.Owned{UDP: snat.Behavior{Share: snat.ShareNever}}
	return c, err
}

// NATGatewayGeneration names a set of what has been documented of Azure's NAT
// gateway at a time.
type NATGatewayGeneration uint8

// The generations. The preview of 2020 had 64,000 ports an address and an extra
// wait of 5 s for the same destination; that we add to its holds is our choice.
//
// Who is told that a connection is over: since the second half of 2023 the text says
// that a segment of one which does not exist gets its sender a RST, be that on the
// side of Azure or of the Internet, and the other end none (NATGateway2023,
// [snat.ResetSender]). The text of January 2023, the first to tell, had it on the inside
// only; the documents of 2020 and 2022 do not tell, so those generations follow this
// next one ([snat.ResetInside]).
const (
	NATGateway2023 NATGatewayGeneration = iota // hold 65 s after FIN, 16 s after RST, 65 s after UDP; half-open 30 s
	NATGateway2022                             // hold 65 s after FIN, 20 s after RST, 65 s after UDP; half-open 25 s
	NATGateway2020                             // hold 60 + 5 s after FIN, 10 + 5 s after RST, 5 s after UDP; half-open 30 s
	numGenerations
)

// natGatewayNames are the names of the presets of the generations.
var natGatewayNames = [numGenerations]string{
	NATGateway2023: nameNATGateway2023, NATGateway2022: nameNATGateway2022, NATGateway2020: nameNATGateway2020,
}

// AzureNATGateway is an Azure NAT gateway: 1..16 addresses (16 of each family, as
// StandardV2 has) with 64,512 ports each for TCP and again for UDP, taken on
// demand; a random port, shared between destinations when none is left; 50,000
// flows of an address to one destination, 2,000,000 in all; TCP idle timeout 4
// minutes (4..120, whole minutes), UDP 4 minutes with each direction refreshed on
// its own; silent expiry, after which a segment gets a RST as g says; ports held as
// g says (Azure: NAT gateway resource, source network address translation).
//
// Our choice: a frontend is chosen at random with its port, and a connection that
// one end has closed keeps its idle timeout. Neither ICMP nor fragments are carried,
// as by SKU Standard; StandardV2 carries echo, which [snat.ICMP].Queries adds, and package
// lb for that SKU.
func AzureNATGateway(s Site, g NATGatewayGeneration) (snat.Config, error) {
	if g >= numGenerations {
		return snat.Config{}, refuse(nameNATGateway2023, "Generation", g, flow.ErrOutOfRange, "0..%d", numGenerations-1)
	}
	c, err := s.begin(natGatewayNames[g], 16, 4*time.Minute, 120*time.Minute, time.Minute)
	if err != nil {
		return c, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, snat.DefaultIdleTimeout)
	ports := &snat.Shared{Frontends: s.Frontends}
	c.Ports = ports
	fin, rst, udp, opening := 65*time.Second, 16*time.Second, 65*time.Second, 30*time.Second
	told := snat.ResetInside
	switch g {
	case NATGateway2023:
		told = snat.ResetSender
	case NATGateway2022:
		rst, opening = 20*time.Second, 25*time.Second
	case NATGateway2020:
		fin, rst, udp = 65*time.Second, 15*time.Second, 5*time.Second
		ports.LastPort = snat.DefaultFirstPort + 64_000 - 1
	}
	c.Timeouts = flow.Timeouts{
		TCPOpening: opening, TCPHalfClosed: c.IdleTimeout, TCPClosing: fin, TCPTimeWait: fin, TCPReset: rst,
		UDP: snat.DefaultIdleTimeout, UDPReplied: snat.DefaultIdleTimeout, UDPHeld: udp,
	}
	c.UDPRefresh, c.ResetUnknown = snat.RefreshPerDirection, told
	return c, nil
}
