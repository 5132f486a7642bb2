package labs

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Frontend ports: of the rules for all machines, and of the inbound NAT rule for machine 0.
const (
	portWeb = 80
	portUDP = 53
	portOne = 2222
)

// What stands behind them; but for floating rules, whose ports are the frontend's.
const (
	machineWeb = 8080
	machineUDP = 5353
	machineOne = 22
)

// haste is how much faster than the clock the load balancer's time runs, so that Azure's
// figures can be waited for: probes come every 250 ms, 4 minutes are 12 s. Kernels open and
// reset connections by the clock, so what the load balancer remembers of that lasts as long
// by the clock as Azure's figures say.
const haste = 20

// byTheClock are the timeouts that kernels' own timers meet: see haste.
func byTheClock() flow.Timeouts {
	azure := snat.AzureTimeouts(0)
	return flow.Timeouts{TCPOpening: haste * azure.TCPOpening, TCPReset: haste * azure.TCPReset}
}

// hasty is an engine in a hurry, whose prober learns when it has acted on what it was told.
type hasty struct {
	flow.Translator
	prober *prober
}

func (h hasty) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	h.Translator.OutboundBatch(now*haste, pkts, verdicts)
}

func (h hasty) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	h.Translator.InboundBatch(now*haste, pkts, verdicts)
}

func (h hasty) Advance(now flow.Time, emit flow.Sink) {
	h.Translator.Advance(now*haste, emit)
	h.prober.acted()
}

func (h hasty) NextDeadline() (flow.Time, bool) {
	at, ok := h.Translator.NextDeadline()
	return (at + haste - 1) / haste, ok
}

// pool is a lab around a load balancer with two machines, each at a device of its own. The
// server's host is the Internet: the clients of the frontends, and the server of what the
// machines begin.
type pool struct {
	*Lab
	t        *testing.T
	balancer *lb.LoadBalancer
	prober   *prober
	machines []*machine
	captures []*Capture // of the Internet, then of the machines
}

// machine is a backend. Its program serves the rules; what the inbound NAT rule is for, and
// who goes out, are other programs on it: this test.
type machine struct {
	*netlab.Namespace
	number  int
	sockets []string // of its program
	program *netlab.Process
}

// newPool makes the lab, all machines serving, and demands at the end that nothing was wrong
// with any packet. The machines of a floating pool have the frontends' addresses.
func newPool(t *testing.T, floating bool) *pool {
	t.Helper()
	netlab.Require(t, "tshark", "nft")
	p := &pool{t: t}
	net := netlab.New(t)
	p.Lab = &Lab{
		Net: net, Server: net.Namespace("internet"),
		Audit: &Audit{Inside: slices.Clone(Inside), Frontends: Frontends, Strangers: []netip.Addr{IPv4.Stranger, IPv6.Stranger}},
	}
	platform := net.Namespace("platform")
	p.prober = newProber(platform)
	config := poolConfig(p.prober, floating)
	var devices []*os.File
	for i, b := range config.Backends {
		m := &machine{Namespace: net.Namespace(b.Name), number: i}
		var own []string
		for _, f := range Families {
			at, web, udp := f.Backend(i), uint16(machineWeb), uint16(machineUDP)
			own = append(own, netip.PrefixFrom(at, at.BitLen()).String())
			if floating {
				m.sockets = append(m.sockets, fmt.Sprint("web=", netip.AddrPortFrom(at, web))) // for probes
				m.Run(fmt.Sprintf("ip addr add %v/%d dev lo", f.Frontend, at.BitLen()))
				at, web, udp = f.Frontend, portWeb, portUDP
			}
			m.sockets = append(m.sockets, fmt.Sprint("web=", netip.AddrPortFrom(at, web)), fmt.Sprint("udp=", netip.AddrPortFrom(at, udp)))
		}
		devices = append(devices, m.TUN("tun0", own...))
		defaultRoutes(m.Namespace, "tun0")
		p.prober.reach(net, m)
		m.program = launchBackend(t, m.Namespace, m.sockets)
		p.machines = append(p.machines, m)
	}
	if floating {
		for _, f := range Frontends {
			p.Audit.Inside = append(p.Audit.Inside, netip.PrefixFrom(f, f.BitLen()))
		}
	}
	p.prober.start(t, config.Backends)
	var err error
	if p.balancer, err = lb.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.balancer.Close)
	p.route(t, hasty{p.balancer, p.prober}, devices...)
	p.Serve(t)
	dir := t.TempDir()
	p.captures = append(p.captures, NewCapture(p.Server, "tun1", filepath.Join(dir, "internet.pcap")))
	for _, m := range p.machines {
		p.captures = append(p.captures, NewCapture(m.Namespace, "tun0", filepath.Join(dir, m.Name()+".pcap")))
	}
	t.Cleanup(p.inspect)
	p.settled(p.machines[0], true)
	p.settled(p.machines[1], true)
	return p
}

// poolConfig is a load balancer with both senses on one frontend of each family.
func poolConfig(prober probe.Prober, floating bool) lb.Config {
	c := lb.Config{
		Prober: prober,
		// HTTP, with Azure's least interval.
		Probes:        []probe.Probe{{Name: "web", Protocol: probe.HTTP, Port: machineWeb, RequestPath: "/bytes?n=1", Interval: probe.MinInterval}},
		Timeouts:      byTheClock(),
		Dataplane:     snat.Dataplane{ICMP: snat.ICMP{Errors: true}},
		OutboundRules: []lb.OutboundRule{{Name: "out", BackendAddressPool: "pool", IdleTimeout: 30 * time.Minute, EnableTCPReset: true}},
	}
	members := lb.BackendAddressPool{Name: "pool"}
	for i := range 2 {
		name := fmt.Sprint("machine", i)
		c.Backends = append(c.Backends, lb.Backend{Name: name, Addrs: []netip.Addr{IPv4.Backend(i), IPv6.Backend(i)}})
		members.Backends = append(members.Backends, name)
	}
	c.BackendAddressPools = []lb.BackendAddressPool{members}
	web, udp := uint16(machineWeb), uint16(machineUDP)
	if floating {
		web, udp = portWeb, portUDP
	}
	for _, f := range Families {
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, lb.FrontendIPConfiguration{Name: f.Name, PublicIPAddress: f.Frontend})
		c.OutboundRules[0].FrontendIPConfigurations = append(c.OutboundRules[0].FrontendIPConfigurations, f.Name)
		rule := lb.LoadBalancingRule{
			Name: "web over " + f.Name, FrontendIPConfiguration: f.Name, BackendAddressPool: "pool", Protocol: snat.TCP, Probe: "web",
			FrontendPort: portWeb, BackendPort: web, IdleTimeout: 30 * time.Minute, EnableTCPReset: true, EnableFloatingIP: floating, DisableOutboundSNAT: true,
		}
		c.LoadBalancingRules = append(c.LoadBalancingRules, rule)
		rule.Name, rule.Protocol, rule.FrontendPort, rule.BackendPort = "UDP over "+f.Name, snat.UDP, portUDP, udp
		rule.IdleTimeout, rule.EnableTCPReset = 0, false
		c.LoadBalancingRules = append(c.LoadBalancingRules, rule)
		c.InboundNATRules = append(c.InboundNATRules, lb.InboundNATRule{
			Name: "one over " + f.Name, FrontendIPConfiguration: f.Name, Backend: c.Backends[0].Name,
			FrontendPort: portOne, BackendPort: machineOne, EnableTCPReset: true, // after 4 minutes
		})
	}
	return c
}

// settled waits until the load balancer has found a machine healthy, or not.
func (p *pool) settled(m *machine, healthy bool) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s: the probes have found that healthy is %v", m.Name(), healthy), func() bool {
		return p.prober.told(m.number, healthy)
	})
}

// freeze cuts a machine off: nothing comes in, nothing goes out, nobody is told.
func (m *machine) freeze() {
	m.Run("nft add table inet frozen")
	m.Run("nft add chain inet frozen in { type filter hook prerouting priority -300 ; policy drop ; }")
	m.Run("nft add chain inet frozen out { type filter hook postrouting priority 300 ; policy drop ; }")
}

// thaw ends freeze.
func (m *machine) thaw() { m.Run("nft delete table inet frozen") }

// inspect ends the lab and reports what was wrong with any packet, for the router's audit or
// for tshark.
func (p *pool) inspect() {
	for _, c := range p.captures {
		c.Stop()
	}
	if err := p.Stop(); err != nil {
		p.t.Error(err)
	}
	for i, c := range p.captures {
		foreign := "" // what a machine may see is the audit's business
		if i == 0 {
			foreign = fmt.Sprintf("||ip.addr==%v||ipv6.addr==%v", Inside[0], Inside[1]) // in headers, and in quotes
			for _, field := range []string{"ip.src", "ip.dst"} {
				foreign += fmt.Sprintf("||(ip&&!(%[1]s==%[2]v||%[1]s==%[3]v))", field, IPv4.Server, IPv4.Frontend)
			}
			for _, field := range []string{"ipv6.src", "ipv6.dst"} { // the host also looks for routers
				foreign += fmt.Sprintf("||(ipv6&&!(%[1]s==%[2]v||%[1]s==%[3]v||ipv6.dst==ff00::/8))", field, IPv6.Server, IPv6.Frontend)
			}
		}
		fields := "-e frame.protocols -e ip.src -e ip.dst -e ipv6.src -e ipv6.dst -e tcp.checksum.status -e udp.checksum.status -e tcp.flags.str -e tcp.len -e _ws.malformed -e _ws.expert.message "
		if bad := c.Packets(fields + "-Y " + Wrong + foreign); len(bad) > 0 {
			p.t.Errorf("%s: %d packets with bad checksums, malformed or of others than the frontend:\n%s", c.in.Name(), len(bad), bad[:min(len(bad), 10)])
		}
	}
}
