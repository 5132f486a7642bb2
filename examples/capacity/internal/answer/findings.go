// Findings: what held the ports, what ended conversations, and what would help.

package answer

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// minIdle is the shortest idle timeout that there is.
const minIdle = 4 * time.Minute

// HoldAfterFIN returns how long a port is kept from a destination after FIN in a cluster: by its load balancer, or
// by its NAT gateway.
func HoldAfterFIN(c *overlay.ClusterConfig) time.Duration {
	switch c.OutboundType {
	case overlay.OutboundManagedNATGateway, overlay.OutboundManagedNATGatewayV2, overlay.OutboundUserAssignedNATGateway:
		var of preset.NATGatewayGeneration
		if own := c.NATGatewayProfile.NATGateway; own != nil {
			of = own.Generation
		}
		site := preset.Site{Frontends: []netip.Addr{netip.IPv6Unspecified()}} // any will do
		gateway, err := preset.AzureNATGateway(site, of)
		if err != nil {
			panic(err) // of a cluster that has been simulated
		}
		return gateway.Timeouts.TCPTimeWait
	}
	return c.Timeouts.Or(snat.AzureTimeouts(0)).TCPTimeWait
}

// Find says what the run shows: its findings are those of the setting as it is.
func (a *Answer) Find() {
	all := []Finding{}
	add := func(code, format string, args ...any) { all = append(all, Finding{code, fmt.Sprintf(format, args...)}) }
	u, idle := a.AsItIs.Peak, Duration(a.Cluster.IdleSeconds)
	shorter := map[bool]string{true: ", or a shorter idle timeout,"}[a.Cluster.IdleSeconds > minIdle.Seconds()]
	if flows := u.Flows(); flows > 0 {
		share := func(n int) string {
			text := page.Percent(float64(n) / float64(flows))
			if len(all) == 0 {
				text += " of what held ports at the peak"
			}
			return text
		}
		if u.HeldFIN*4 >= flows {
			text := fmt.Sprintf("%s were closed connections. They keep a port from their destination for %s, whatever the idle timeout: connections that are kept open and used again (reuse=on) need no new port.", share(u.HeldFIN), Duration(a.Cluster.HoldSeconds))
			if n := a.Cluster.PortsPerNode; n > 0 && a.Cluster.OutboundType == overlay.OutboundLoadBalancer.String() {
				text += fmt.Sprintf(" The %s ports of a node last for %.1f new connections a second to one destination.", page.Count(n), whatif.Sustained(n, 0, time.Duration(a.Cluster.HoldSeconds*float64(time.Second))))
			}
			add("held", "%s", text)
		}
		if u.Abandoned*10 >= flows {
			add("abandoned", "%s were connections that their pods had left without FIN; each holds its port for %s. Closing them (close=on)%s gives the ports back.", share(u.Abandoned), idle, shorter)
		}
		if u.UDPWaiting*10 >= flows {
			add("udp", "%s were UDP sockets that nobody used any more: nobody can see the end of UDP, so each holds its port for %s. A DNS cache (dns-cache=30s)%s relieves that.", share(u.UDPWaiting), idle, shorter)
		}
	}
	if n := a.AsItIs.Total.Cut; n > 0 {
		add("cut", "%s said nothing for %s, got a RST, and had more to say; a TCP keepalive (keepalive=1m) prevents that.", page.Plural(n, "conversation"), idle)
	}
	if n := a.AsItIs.Total.Broken; n > 0 {
		add("broken", "%s said nothing for %s, and what they said then was dropped, for the NAT had forgotten them and had not told; a TCP keepalive (keepalive=1m) prevents that.", page.Plural(n, "conversation"), idle)
	}
	if n := a.AsItIs.Total.NoPort; n > 0 {
		add("ephemeral", "%s failed before any packet left: their pod had no ephemeral port.", page.Plural(n, "conversation"))
	}
	if t := &a.AsItIs.Total; t.Refused == 0 && len(all) > 0 && a.AsItIs.PeakShare > 0 {
		add("headroom", "Nothing was refused; at its peak the fullest node used %s of its ports.", page.Percent(a.AsItIs.PeakShare))
	}
	if u := a.Upgrade; u != nil {
		was, is := a.AsItIs.Total.Refused, u.Result.Total.Refused
		text := fmt.Sprintf("The upgrade of %s moved pods %s, which ended %s of theirs; %s refused, without it %s.", u.Pool, page.Plural(u.Moved, "time"), page.Plural(u.Lost, "conversation"), page.Plural(is, "conversation"), page.Count(was))
		if is > was {
			text += " Pods of a node that is drained need ports of the others: more ports for each node, or fewer nodes at a time (a smaller surge), or a quieter hour."
		}
		add("upgrade", "%s", text)
	}
	a.Findings = all
}
