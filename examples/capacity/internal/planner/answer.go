// From what was simulated to the answer.

package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

// answer returns what the run has found.
func (r *run) answer() *answer.Answer {
	var d answer.Answer
	o := &r.options
	s := &d.Settings
	s.Cluster, s.Workload, s.Trace, s.TraceFlows = append([]string{}, o.clusters...), o.workload, o.trace, len(r.workload.Trace)
	s.WarmUpSeconds = o.warmUp.Seconds()
	s.UntilSeconds, s.Sweep, s.Recommend, s.HeadroomPercent, s.AcceptCuts, s.Seed = o.until.Seconds(), o.sweep.text, o.recommend, o.headroom, o.cuts, r.workload.Seed
	s.Scale, s.Upgrade, s.Story = make(map[string]int), o.upgrade.text, o.story
	for _, p := range o.scale {
		s.Scale[p.name] = p.nodes
	}
	d.AsItIs = answer.ResultOf(r.now)
	d.AsItIs.Course = r.course
	c := &d.Cluster
	c.Name, c.Nodes, c.Pools, c.Pods, c.OutboundType = r.config.Name, r.nodes, len(r.config.NodePools), r.hosts, r.config.OutboundType.String()
	c.IPs, c.IdleSeconds, c.HoldSeconds = ips(r.now), idleTimeout(&r.config).Seconds(), answer.HoldAfterFIN(&r.config).Seconds()
	if len(r.now.Nodes) > 0 {
		c.PortsPerNode = r.now.Nodes[0].Allocated
	}
	c.NotModelled, c.Pending = append([]string{}, r.omitted...), append([]string{}, r.pending...)
	d.Skipped, d.Complete, d.NoSetting, d.Upgrade = append([]string{}, r.skipped...), !r.interrupted, r.none, r.upgraded
	d.Sweep = []answer.Row{}
	for _, x := range r.rows {
		row := answer.Row{Setting: x.Setting}
		if x.Err != nil {
			row.Error = reason(x.Err)
		} else {
			short := answer.SummaryOf(x.Result)
			row.Result = &short
		}
		d.Sweep = append(d.Sweep, row)
	}
	if b := r.best; b != nil {
		d.Recommendation = &answer.Recommendation{
			IPs: b.IPs, PortsPerNode: b.Ports, IdleSeconds: b.IdleTimeout.Seconds(), LeastPorts: b.Least,
			Setting: settingText(b.IPs, b.Ports, b.IdleTimeout), Command: r.azure(), Mind: r.mind(), Result: answer.ResultOf(b.Result),
			ShortestIdleSeconds: b.ShortestIdle.Seconds(), TooLongIdleSeconds: b.TooLong.Seconds(),
		}
		if b.Refusing != nil {
			short := answer.SummaryOf(b.Refusing)
			d.Recommendation.Refusing = &short
		}
	}
	if r.story != nil {
		d.Story = &r.story.Story
	}
	d.Find()
	d.Conclude()
	return &d
}

// reason says why a setting has no result.
func reason(err error) string {
	if errors.Is(err, context.Canceled) {
		return answer.NotDone
	}
	return err.Error()
}

// mind says what else the recommendation changes.
func (r *run) mind() []string {
	all := []string{}
	p := &r.config.LoadBalancerProfile
	switch managed := p.ManagedOutboundIPCount; {
	case len(p.OutboundIPs)+len(p.OutboundIPPrefixes) > 0:
		all = append(all, "packets leave from other addresses: managed outbound IPs take the place of the cluster's own ones")
	case r.best.IPs < managed:
		all = append(all, fmt.Sprintf("%s fewer: packets leave no more from those that go", page.Plural(managed-r.best.IPs, "outbound IP")))
	}
	cuts := func(x *whatif.Result) uint64 { return x.Total.Cut + x.Total.Broken }
	if n := cuts(r.best.Result); n > 0 {
		all = append(all, fmt.Sprintf("%s cut or broken after an idle timeout, as it is %s", page.Plural(n, "conversation"), page.Count(cuts(r.now))))
	}
	return all
}

// azure returns the command that sets what is recommended; the flags are those of az aks update
// (learn.microsoft.com/azure/aks/load-balancer-standard).
func (r *run) azure() string {
	b := r.best
	name := "NAME"
	if r.config.Name != "" {
		name = r.config.Name
	}
	text := fmt.Sprintf("az aks update -g GROUP -n %s --load-balancer-managed-outbound-ip-count %d", name, b.IPs)
	if n := b.Cluster.LoadBalancerProfile.ManagedOutboundIPCountIPv6; n > 0 {
		text += fmt.Sprintf(" --load-balancer-managed-outbound-ipv6-count %d", n)
	}
	return text + fmt.Sprintf(" --load-balancer-outbound-ports %d --load-balancer-idle-timeout %d", b.Ports, b.IdleTimeout/time.Minute)
}

// ips returns the number of outbound IPs: of IPv4, unless there is IPv6 only.
func ips(r *whatif.Result) int {
	seen := [2]map[netip.Addr]bool{{}, {}}
	for _, f := range r.Frontends {
		seen[flow.Family(f.Frontend)][f.Frontend] = true
	}
	return cmp.Or(len(seen[0]), len(seen[1]))
}

// settingText writes a setting as a sweep does.
func settingText(ips, ports int, idle time.Duration) string {
	all := whatif.Grid(whatif.OutboundIPs(ips), whatif.OutboundPorts(ports), whatif.IdleTimeouts(idle))
	return all[0].Name
}

// idleTimeout returns the one that is in force.
func idleTimeout(c *overlay.ClusterConfig) time.Duration {
	switch c.OutboundType {
	case overlay.OutboundManagedNATGateway, overlay.OutboundManagedNATGatewayV2:
		return max(c.NATGatewayProfile.IdleTimeout, minIdle)
	case overlay.OutboundUserAssignedNATGateway:
		return max(c.NATGatewayProfile.NATGateway.IdleTimeout, minIdle)
	}
	if c.LoadBalancerProfile.IdleTimeout == 0 {
		return overlay.DefaultIdleTimeout
	}
	return c.LoadBalancerProfile.IdleTimeout
}

// lifetimes returns for how long ports are held, as far as that is known: of a NAT gateway, whose timers are
// others, only the idle timeout of TCP is.
func lifetimes(c *overlay.ClusterConfig) forecast.Lifetimes {
	switch c.OutboundType {
	case overlay.OutboundManagedNATGateway, overlay.OutboundManagedNATGatewayV2, overlay.OutboundUserAssignedNATGateway:
		return forecast.Lifetimes{Idle: idleTimeout(c)}
	}
	return forecast.Azure(idleTimeout(c))
}
