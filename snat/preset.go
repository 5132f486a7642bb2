package snat

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Presets: configurations that behave as a product does, or as the RFCs recommend
// (preset_rfc.go). Each is a function of the addresses in a [Site]; the values come
// from the product's documentation, and what that does not tell is marked as our
// choice. Where the engine cannot do as the product does, the preset's comment says
// so.

// Site is what no preset can know: who is behind the translator and which
// addresses it has.
type Site struct {
	// Instances are the virtual machines or nodes, with names and addresses;
	// Ports and Policy are the preset's business and must not be set.
	Instances []Instance

	// Routes are passed on to the configuration.
	Routes []Route

	// Frontends are the public addresses, in the order in which they are used.
	Frontends []netip.Addr

	// PortsPerInstance is how many ports each instance gets of each protocol
	// and address family, where a preset preallocates them. 0 means the preset's default.
	PortsPerInstance int

	// IdleTimeout is that of established TCP connections, where the product
	// lets its user choose. 0 means the product's default.
	IdleTimeout time.Duration

	// Seed decides everything that is random.
	Seed uint64
}

// Preset is a named configuration.
type Preset struct {
	Name      string                     // as PresetByName takes it, such as "azure-lb"
	Summary   string                     // one line for people
	Configure func(Site) (Config, error) // one of the functions of this package
}

// Names of presets, which their errors begin with.
const (
	nameAWSNATGateway   = "aws-natgw"
	nameAzureLB         = "azure-lb"
	nameAzureLB2019     = "azure-lb-2019"
	nameNATGateway2023  = "azure-natgw"
	nameNATGateway2022  = "azure-natgw-2022"
	nameNATGateway2020  = "azure-natgw-2020"
	nameCGN             = "cgn"
	nameGCPCloudNAT     = "gcp-cloudnat"
	nameLinuxMasquerade = "linux-masquerade"
	nameRFC             = "rfc"
)

// Presets returns all presets, sorted by name.
func Presets() []Preset {
	gateway := func(g NATGatewayGeneration) func(Site) (Config, error) {
		return func(s Site) (Config, error) { return AzureNATGateway(s, g) }
	}
	return []Preset{
		{nameAWSNATGateway, "AWS NAT gateway", AWSNATGateway},
		{nameAzureLB, "Azure Standard Load Balancer, outbound rule", AzureLB},
		{nameAzureLB2019, "the same with the UDP ports of 2019: never shared", AzureLB2019},
		{nameNATGateway2023, "Azure NAT gateway, as documented since 2023: late segments reset their sender", gateway(NATGateway2023)},
		{nameNATGateway2020, "Azure NAT gateway, preview of 2020: resets to the inside only", gateway(NATGateway2020)},
		{nameNATGateway2022, "Azure NAT gateway, timers of 2022: resets to the inside only", gateway(NATGateway2022)},
		{nameCGN, "carrier-grade NAT: rfc with port blocks, quotas and a log", CGN},
		{nameGCPCloudNAT, "GCP Cloud NAT, static port allocation", GCPCloudNAT},
		{nameLinuxMasquerade, "Linux masquerade (nf_nat and nf_conntrack)", LinuxMasquerade},
		{nameRFC, "a NAT as the RFCs recommend it", RFC},
	}
}

// PresetByName returns the preset of a name, and whether there is one.
func PresetByName(name string) (Preset, bool) {
	all := Presets()
	i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		return Preset{}, false
	}
	return all[i], true
}

// begin checks what all presets check and returns the configuration to complete.
// frontends is the most a product has of each address family, and minIdle and
// maxIdle what it allows as idle timeout, in steps.
func (s *Site) begin(preset string, frontends int, minIdle, maxIdle, step time.Duration) (Config, error) {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var n [2]int
	for _, a := range s.Frontends {
		n[family(a)]++
	}
	if k := max(n[0], n[1]); k < 1 || k > frontends {
		add("Frontends: %d addresses: %w: 1..%d", k, ErrOutOfRange, frontends)
	}
	if d := s.IdleTimeout; d != 0 && (d < minIdle || d > maxIdle || d%step != 0) {
		add("IdleTimeout %v: %w: %v..%v in steps of %v", d, ErrOutOfRange, minIdle, maxIdle, step)
	}
	for i := range s.Instances {
		if len(s.Instances[i].Ports) > 0 || s.Instances[i].Policy != nil {
			add("Instances[%d].Ports or Policy: %w: the preset sets them", i, ErrOutOfRange)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("snat: %s: %w", preset, err)
	}
	return Config{Instances: slices.Clone(s.Instances), Routes: s.Routes, Seed: s.Seed}, nil
}

// unlimited is a number of frontends for products that document none.
const unlimited = 1 << 16

// preallocate grants every instance of c its ports of each address family, as
// runs of consecutive ports from 1024 on: the first frontend is used up first,
// and a run that does not fit is continued on the next one. perFrontend is the
// number of ports of a frontend.
func (s *Site) preallocate(c *Config, preset string, ports, perFrontend int) error {
	const first = 1024
	var errs []error
	for f, name := range []string{"IPv4", "IPv6"} {
		var addrs []netip.Addr
		for _, a := range s.Frontends {
			if family(a) == f {
				addrs = append(addrs, a)
			}
		}
		if len(addrs) == 0 {
			continue
		}
		if need := len(c.Instances) * ports; need > len(addrs)*perFrontend {
			errs = append(errs, fmt.Errorf("Frontends: %d %s addresses: %w: %d instances with %d ports need %d", len(addrs), name,
				ErrOutOfRange, len(c.Instances), ports, (need+perFrontend-1)/perFrontend))
			continue
		}
		for i, at := 0, 0; i < len(c.Instances); i++ {
			inst := &c.Instances[i]
			inst.Ports = slices.Clip(inst.Ports)
			for left := ports; left > 0; {
				n := min(left, perFrontend-at%perFrontend)
				inst.Ports = append(inst.Ports, PortRange{Frontend: addrs[at/perFrontend], First: uint16(first + at%perFrontend), Count: n})
				at, left = at+n, left-n
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("snat: %s: %w", preset, err)
	}
	return nil
}

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
func AzureLB(s Site) (Config, error) {
	return azureLB(nameAzureLB, s)
}

// azureLB is AzureLB for a preset of a name.
func azureLB(name string, s Site) (Config, error) {
	c, err := s.begin(name, 600, 4*time.Minute, 120*time.Minute, time.Minute)
	if err != nil {
		return c, err
	}
	ports := cmp.Or(s.PortsPerInstance, 1024)
	if ports < BlockSize || ports > 64_000 || ports%BlockSize != 0 {
		return Config{}, fmt.Errorf("snat: %s: PortsPerInstance %d: %w: multiples of 8 from 8 to 64,000", name, ports, ErrOutOfRange)
	}
	if err := s.preallocate(&c, name, ports, 64_000); err != nil {
		return Config{}, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, DefaultIdleTimeout)
	return c, nil
}

// AzureLB2019 is AzureLB as documented in 2019 and 2020: a UDP port is never
// shared, so UDP runs out of ports sooner (Azure: outbound connections 2019-20).
func AzureLB2019(s Site) (Config, error) {
	c, err := azureLB(nameAzureLB2019, s)
	c.UDP.Share = ShareNever
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
// [ResetSender]). The text of January 2023, the first to tell, had it on the inside
// only; the documents of 2020 and 2022 do not tell, so those generations follow this
// next one ([ResetInside]).
const (
	NATGateway2023 NATGatewayGeneration = iota // hold 65 s after FIN, 16 s after RST, 65 s after UDP; half-open 30 s
	NATGateway2022                             // hold 65 s after FIN, 20 s after RST, 65 s after UDP; half-open 25 s
	NATGateway2020                             // hold 60 + 5 s after FIN, 10 + 5 s after RST, 5 s after UDP; half-open 30 s
	numNATGatewayGenerations
)

// natGatewayNames are the names of the presets of the generations.
var natGatewayNames = [numNATGatewayGenerations]string{
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
// as by SKU Standard; StandardV2 carries echo, which [ICMP].Queries adds, and package
// lb for that SKU.
func AzureNATGateway(s Site, g NATGatewayGeneration) (Config, error) {
	if g >= numNATGatewayGenerations {
		return Config{}, fmt.Errorf("snat: %s: generation %d: %w: 0..%d", nameNATGateway2023, g, ErrOutOfRange, numNATGatewayGenerations-1)
	}
	c, err := s.begin(natGatewayNames[g], 16, 4*time.Minute, 120*time.Minute, time.Minute)
	if err != nil {
		return c, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, DefaultIdleTimeout)
	c.Inventory = &Inventory{Frontends: s.Frontends}
	fin, rst, udp, opening := 65*time.Second, 16*time.Second, 65*time.Second, 30*time.Second
	told := ResetInside
	switch g {
	case NATGateway2023:
		told = ResetSender
	case NATGateway2022:
		rst, opening = 20*time.Second, 25*time.Second
	case NATGateway2020:
		fin, rst, udp = 65*time.Second, 15*time.Second, 5*time.Second
		c.Inventory.LastPort = DefaultFirstPort + 64_000 - 1
	}
	c.Timeouts = flow.Timeouts{
		TCPOpening: opening, TCPHalfClosed: c.IdleTimeout, TCPClosing: fin, TCPTimeWait: fin, TCPReset: rst,
		UDP: DefaultIdleTimeout, UDPReplied: DefaultIdleTimeout, UDPHeld: udp,
	}
	c.UDPRefresh, c.ResetUnknown = RefreshPerDirection, told
	return c, nil
}

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
func AWSNATGateway(s Site) (Config, error) {
	const idle = 350 * time.Second
	c, err := s.begin(nameAWSNATGateway, 8, idle, idle, time.Second)
	if err != nil {
		return c, err
	}
	c.IdleTimeout = idle
	c.Inventory = &Inventory{Frontends: s.Frontends, FlowsPerDestination: 55_000, MaxFlows: 1<<31 - 1}
	c.Timeouts = flow.Timeouts{
		TCPOpening: idle, TCPHalfClosed: idle,
		TCPClosing: time.Minute, TCPTimeWait: time.Minute, TCPReset: time.Minute, ICMP: idle,
	}
	c.ResetUnknown = ResetInside
	c.ICMP = ICMP{Queries: true, Errors: true}
	c.Fragments.Mode = FragmentsUDP
	return c, nil
}

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
func GCPCloudNAT(s Site) (Config, error) {
	const name = nameGCPCloudNAT
	c, err := s.begin(name, unlimited, time.Second, flow.MaxTimeout, time.Second)
	if err != nil {
		return c, err
	}
	if n := s.PortsPerInstance; n != 0 && (n < 2 || n > 65536) {
		return Config{}, fmt.Errorf("snat: %s: PortsPerInstance %d: %w: 2..65536", name, n, ErrOutOfRange)
	}
	ports := BlockSize
	for ports < cmp.Or(s.PortsPerInstance, 64) {
		ports *= 2
	}
	if err := s.preallocate(&c, name, ports, 64_512); err != nil {
		return Config{}, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, 1200*time.Second)
	const transitory, timeWait = 30 * time.Second, 120 * time.Second
	c.Timeouts = flow.Timeouts{
		TCPOpening: transitory, TCPHalfClosed: transitory, TCPClosing: timeWait, TCPTimeWait: timeWait, TCPReset: timeWait,
		UDP: transitory, UDPReplied: transitory, ICMP: transitory,
	}
	c.ICMP = ICMP{Queries: true, QueryPerDestination: true, AllowShortTimeout: true, Errors: true}
	c.UDP = Behavior{Mapping: AddressAndPortDependent, Share: SharePerDestination}
	c.Allocation.Choice = RandomPort
	return c, nil
}

// LinuxMasquerade is the masquerading of a Linux host: one address of each
// family, that of its outside interface; the source port is kept if no flow to
// the same destination has it, else a random one of its class is taken (1-511,
// 600-1023, or from 1024); TCP followed by the rules of nf_conntrack, see
// [flow.ConntrackRules], with its timeouts: established connections 5 days (settable),
// 300 s with unacknowledged data, without window, without a reply or after the same
// segment four times; SYN 120 s, which the SYN again does not renew, SYN-ACK 60 s;
// after a FIN 120 s, an ACK after it 60 s, a second FIN, whosever, 30 s, then an ACK
// 120 s; RST 10 s, but nothing before there is a reply; UDP 30 s and with a reply 120 s,
// ICMP 30 s. Echo and timestamps are carried, with their identifier if no other host
// has it towards the destination, and errors about flows; and TTL is counted down
// (Linux: nf_nat_core.c, nf_conntrack_proto_tcp.c, nf_conntrack-sysctl.rst).
//
// Linux differs where the engine has no counterpart: it first offers a socket the
// port that it has towards another destination; its search gives up after 248
// tries, where this one is exact; the longer timeout of UDP begins 2 s after the first
// packet; a SYN from the outside ends a connection in TIME_WAIT, which here goes on;
// what is out of the window is dropped or leaves untranslated, and here is forwarded
// without effect. As there (nf_conntrack_tcp_loose), a connection without known
// beginning is picked up by a segment from the inside with ACK, but no SYN, FIN or
// RST; a segment from the outside picks nothing up, for it has no port. The limit on all
// flows is the size of its table and memory; here there is none. Identifier 0 and UDP
// port 0 are exchanged for others. Linux reassembles fragments; here each is translated by
// itself, and waits as long as there, 30 s.
func LinuxMasquerade(s Site) (Config, error) {
	const second = time.Second
	c, err := s.begin(nameLinuxMasquerade, 1, second, flow.MaxTimeout, second)
	if err != nil {
		return c, err
	}
	c.IdleTimeout = cmp.Or(s.IdleTimeout, 432_000*second)
	c.Inventory = &Inventory{
		Frontends: s.Frontends, FirstPort: 1, LastPort: 65535, Choice: PreservePort,
		FlowsPerDestination: 65536, MaxFlows: 1<<31 - 1,
	}
	c.Timeouts = flow.Timeouts{
		TCPOpening: 120 * second, TCPHalfClosed: 120 * second, TCPClosing: 30 * second, TCPTimeWait: 120 * second,
		TCPReset: 10 * second, UDP: 30 * second, UDPReplied: 120 * second, ICMP: 30 * second,
		TCPSynReceived: 60 * second, TCPCloseWait: 60 * second, TCPUnacknowledged: 300 * second,
	}
	c.ICMP = ICMP{
		Queries: true, Timestamps: true, AllowShortTimeout: true,
		Errors: true, SourceQuench: true, LenientQuotes: true, TTL: TTLRouter,
	}
	c.Lenient = Leniency{TCPFlags: true, UDPPortZero: true, UDP6Zero: true}
	c.Fragments = Fragments{Mode: FragmentsVirtual, Lifetime: 30 * second}
	c.EndRefused, c.PickUp, c.TCPRules = true, true, flow.ConntrackRules
	return c, nil
}
