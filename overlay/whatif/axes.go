// Axes: the settings that operators have.

package whatif

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
)

// axis makes a setting of each value, named "name=value".
func axis[T any](name string, values []T, text func(T) string, change func(*overlay.ClusterConfig, *Workload, T)) (a Axis) {
	for _, v := range values {
		a = append(a, Setting{name + "=" + text(v), func(c *overlay.ClusterConfig, w *Workload) { change(c, w, v) }})
	}
	return a
}

// hasGateway reports whether traffic leaves by a managed NAT gateway.
func hasGateway(c *overlay.ClusterConfig) bool {
	return c.OutboundType == overlay.OutboundManagedNATGateway || c.OutboundType == overlay.OutboundManagedNATGatewayV2
}

// OutboundIPs is the number of managed IPv4 outbound IPs of the load balancer, in place of own
// ones, or of the NAT gateway if the outbound type is a managed one.
func OutboundIPs(counts ...int) Axis {
	return axis("ips", counts, strconv.Itoa, func(c *overlay.ClusterConfig, _ *Workload, n int) {
		if hasGateway(c) {
			c.NATGatewayProfile.ManagedOutboundIPCount = n
			return
		}
		p := &c.LoadBalancerProfile
		p.ManagedOutboundIPCount, p.OutboundIPs, p.OutboundIPPrefixes = n, nil, nil
	})
}

// OutboundPorts is the number of ports of each node, 0 for automatic ones. It changes nothing where
// the outbound type is another one than the load balancer.
func OutboundPorts(counts ...int) Axis {
	text := func(n int) string {
		if n == 0 {
			return "auto"
		}
		return strconv.Itoa(n)
	}
	return axis("ports", counts, text, func(c *overlay.ClusterConfig, _ *Workload, n int) {
		if c.OutboundType == overlay.OutboundLoadBalancer {
			c.LoadBalancerProfile.AllocatedOutboundPorts = n
		}
	})
}

// IdleTimeouts is the idle timeout of the load balancer or the managed NAT gateway.
func IdleTimeouts(timeouts ...time.Duration) Axis {
	return axis("idle", timeouts, short, func(c *overlay.ClusterConfig, _ *Workload, d time.Duration) {
		if hasGateway(c) {
			c.NATGatewayProfile.IdleTimeout = d
		} else {
			c.LoadBalancerProfile.IdleTimeout = d
		}
	})
}

// short writes a duration without the units that are zero.
func short(d time.Duration) string {
	switch {
	case d != 0 && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d != 0 && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// OutboundTypes is what traffic leaves through. Between the load balancer and managed NAT gateways
// the number of managed IPs, up to 16, and the idle timeout go along; what else a profile has
// about the way out is given up with it. In a grid this axis comes before those of IPs, ports and
// timeouts.
func OutboundTypes(types ...overlay.OutboundType) Axis {
	return axis("outbound", types, overlay.OutboundType.String, func(c *overlay.ClusterConfig, _ *Workload, t overlay.OutboundType) {
		if t == c.OutboundType {
			return
		}
		b, g := &c.LoadBalancerProfile, &c.NATGatewayProfile
		ips, idle := max(b.ManagedOutboundIPCount, g.ManagedOutboundIPCount), max(b.IdleTimeout, g.IdleTimeout)
		*b = overlay.LoadBalancerProfile{ManagedOutboundIPRanges: b.ManagedOutboundIPRanges, OwnRanges: b.OwnRanges, DisableTCPReset: b.DisableTCPReset}
		*g = overlay.NATGatewayProfile{}
		switch c.OutboundType = t; {
		case hasGateway(c):
			g.ManagedOutboundIPCount, g.IdleTimeout = min(ips, maxGatewayIPs), idle
		case t == overlay.OutboundLoadBalancer:
			b.ManagedOutboundIPCount, b.IdleTimeout = ips, idle
		}
	})
}

// maxGatewayIPs is how many addresses a NAT gateway has at most.
const maxGatewayIPs = 16

// Nodes is the number of nodes of a pool. Pods are where Plan.Start puts them.
func Nodes(pool string, counts ...int) Axis {
	return pools("nodes", pool, counts, strconv.Itoa, func(p *overlay.NodePool, n int) { p.Count = n })
}

// Surge is how many nodes an upgrade of a pool adds, for which ports are kept; see
// [overlay.NodePool].MaxSurge.
func Surge(pool string, surges ...string) Axis {
	return pools("surge", pool, surges, func(s string) string { return s }, func(p *overlay.NodePool, s string) { p.MaxSurge = s })
}

// pools is an axis of a field of a pool, or of all pools if it has no name.
func pools[T any](name, pool string, values []T, text func(T) string, change func(*overlay.NodePool, T)) Axis {
	if pool != "" {
		name += "(" + pool + ")"
	}
	return axis(name, values, text, func(c *overlay.ClusterConfig, _ *Workload, v T) {
		c.NodePools = slices.Clone(c.NodePools)
		for i := range c.NodePools {
			if pool == "" || c.NodePools[i].Name == pool {
				change(&c.NodePools[i], v)
			}
		}
	})
}

// TCPReset is whether the load balancer resets idle connections.
func TCPReset(on ...bool) Axis {
	return axis("reset", on, onOff, func(c *overlay.ClusterConfig, _ *Workload, on bool) { c.LoadBalancerProfile.DisableTCPReset = !on })
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// DNSCache is how long hosts remember answers of all lookups; 0 is no cache.
func DNSCache(ttls ...time.Duration) Axis {
	return traffics("dns-cache", ttls, short, func(t *Traffic, ttl time.Duration) {
		if t.Kind == Lookup {
			t.CacheTTL = ttl
		}
	})
}

// ConnectionReuse is whether requests that open a connection each are sent by pools instead;
// without it all are as they are. What is abandoned, or has several requests on a connection,
// stays.
func ConnectionReuse(on ...bool) Axis {
	return traffics("reuse", on, onOff, func(t *Traffic, on bool) {
		if on && t.Kind == PerRequest && t.Requests <= 1 && t.End != Abandoned {
			t.Kind, t.Requests, t.Pause = Pool, 0, 0
		}
	})
}

// CloseAbandoned is whether clients close the connections that they would abandon; without it all are
// as they are.
func CloseAbandoned(on ...bool) Axis {
	return traffics("close", on, onOff, func(t *Traffic, on bool) {
		if on && t.End == Abandoned {
			t.End = ClientCloses
		}
	})
}

// KeepAlives is how long connections are silent until a client probes them; 0 is never.
func KeepAlives(intervals ...time.Duration) Axis {
	return traffics("keepalive", intervals, short, func(t *Traffic, d time.Duration) {
		if t.Kind == PerRequest || t.Kind == Pool {
			t.KeepAlive = d
		}
	})
}

// traffics is an axis of all Traffic.
func traffics[T any](name string, values []T, text func(T) string, change func(*Traffic, T)) Axis {
	return axis(name, values, text, func(_ *overlay.ClusterConfig, w *Workload, v T) {
		w.Traffic = slices.Clone(w.Traffic)
		for i := range w.Traffic {
			change(&w.Traffic[i], v)
		}
	})
}
