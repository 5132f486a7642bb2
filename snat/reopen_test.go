package snat_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What follows upon a closed connection on its sockets meets what every new flow meets.

// eachEnd runs a test for both families, and for both ways in which a connection ends.
func eachEnd(t *testing.T, f func(t *testing.T, r realm, end string)) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, end := range []string{"FA", "R"} {
			t.Run(end, func(t *testing.T) { f(t, r, end) })
		}
	})
}

// ends ends a dialled connection.
func (b *bed) ends(src, outside, dst, end string) {
	b.t.Helper()
	b.locally(src, dst, end, 1001, 5001)
	if end == "FA" {
		b.remotely(dst, outside, end, 5001, 1002)
		b.locally(src, dst, "A", 1002, 5002)
	}
}

// route returns a configuration with one more row, for all remotes of a family.
func route(c snat.Config, r realm, row snat.Route) snat.Config {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if r.is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	row.Prefix = all
	c.Routes = append([]snat.Route{row}, c.Routes...)
	return c
}

// A route that drops is for the next connection, from either side, and leaves the closed one as
// it is. One that lets pass ends it, for what follows has to pass too.
func TestReopenedByRoute(t *testing.T) {
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, oneVM(64))
		src, dst := socket(r.a, 5000), socket(r.s, 80)
		outside := b.dials(src, dst)
		b.ends(src, outside, dst, end)
		b.becomes(route(oneVM(64), r, snat.Route{Action: snat.Blackhole}))
		for range 2 {
			assert.Equal(t, "drop route", b.locally(src, dst, "S", 700000, 0))
			assert.Equal(t, "drop route", b.remotely(dst, outside, "S", 900000, 0))
		}
		assert.Equal(t, "drop route", b.opens("tcp", socket(r.a, 5001), dst))
		assert.EqualValues(t, 1, b.Stats().SessionsActive)
		b.becomes(oneVM(64))
		assert.Equal(t, outside, source(b.locally(src, dst, "S", 700000, 0)), "as it was")
		assert.EqualValues(t, 1, b.Stats().SessionsCreated)
		b.remotely(dst, outside, "RA", 0, 700001)

		b.becomes(route(oneVM(64), r, snat.Route{Action: snat.PassThrough}))
		assert.Contains(t, b.locally(src, dst, "S", 800000, 0), "bypass")
		assert.Zero(t, b.Stats().SessionsActive)
		assert.Contains(t, b.locally(src, dst, "A", 800001, 900001), "bypass", "of the connection that has passed")
		s := b.Stats()
		assert.EqualValues(t, 1, s.SessionsEnded)
		assert.EqualValues(t, 1, s.Expired[flow.ClassTCPTimeWait]+s.Expired[flow.ClassTCPClosing]+s.Expired[flow.ClassTCPReset])
		b.becomes(oneVM(64))
		assert.Equal(t, outside, b.opens("tcp", src, dst))
	})
}

// Nor does the memory of a connection that was reset for being idle answer what has passed.
func TestResetGivesWayToWhatPasses(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := oneVM(64)
		c.Policy.EnableTCPReset = true
		b := newBed(t, c)
		src, dst := socket(r.a, 5000), socket(r.s, 80)
		b.dials(src, dst)
		b.at(4*time.Minute + time.Second)
		require.Len(t, b.sent(), 2)
		b.becomes(route(c, r, snat.Route{Action: snat.PassThrough}))
		assert.Contains(t, b.locally(src, dst, "S", 800000, 0), "bypass")
		assert.Contains(t, b.locally(src, dst, "A", 800001, 900001), "bypass")
	})
}

// A pod's next connection leaves by a frontend or by the node's address, as rows have it then.
func TestReopenedByNodeAddress(t *testing.T) {
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, nodeInVNet())
		src, dst := socket(r.pod, 5000), socket(r.s, 80)
		outside := b.dials(src, dst)
		b.ends(src, outside, dst, end)
		masquerades := route(nodeInVNet(), r, snat.Route{Action: snat.NodeAddress})
		b.becomes(masquerades)
		assert.Equal(t, socket(r.node, 5000), source(b.locally(src, dst, "S", 700000, 0)))
		assert.Equal(t, []flow.Kind{flow.KindNode}, b.kinds())
		b.remotely(dst, socket(r.node, 5000), "RA", 0, 700001)
		b.becomes(nodeInVNet())
		assert.Equal(t, outside, source(b.locally(src, dst, "S", 800000, 0)))
		assert.Equal(t, []flow.Kind{flow.KindTranslated}, b.kinds())
	})
}

// The node's own next connection is remembered where a row begins to work both ways.
func TestReopenedByNode(t *testing.T) {
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, nodeInVNet())
		src, dst := socket(r.node, 5000), socket(r.s, 80)
		outside := b.dials(src, dst)
		b.ends(src, outside, dst, end)
		b.becomes(route(nodeInVNet(), r, snat.Route{Action: snat.NodeAddress, BothWays: true}))
		assert.Equal(t, src, source(b.locally(src, dst, "S", 700000, 0)))
		assert.Equal(t, []flow.Kind{flow.KindTracked}, b.kinds())
		b.remotely(dst, src, "RA", 0, 700001)
		b.becomes(nodeInVNet())
		assert.Equal(t, outside, source(b.locally(src, dst, "S", 800000, 0)))
		assert.Equal(t, []flow.Kind{flow.KindTranslated}, b.kinds())
	})
}

// What was let in by a row is let in again by one, and not without.
func TestReopenedFromOutside(t *testing.T) {
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, nodeInVNet())
		pod, host := socket(r.pod, 8080), socket(r.peer, 41000)
		b.connects(host, pod)
		b.locally(pod, host, end, 1001, 5001)
		if end == "FA" {
			b.remotely(host, pod, end, 5001, 1002)
		}
		closed := nodeInVNet()
		closed.Routes = closed.Routes[:0]
		b.becomes(closed)
		for range 2 {
			assert.Equal(t, "drop not_ours", b.remotely(host, pod, "S", 700000, 0))
		}
		b.becomes(nodeInVNet())
		assert.Equal(t, pod, destination(b.remotely(host, pod, "S", 700000, 0)))
		assert.EqualValues(t, 1, b.Stats().SessionsCreated)
		b.locally(pod, host, "RA", 0, 700001)
		b.becomes(closed)
		assert.NotContains(t, b.locally(pod, host, "S", 800000, 0), pod, "what begins inside is translated")
		assert.Equal(t, []flow.Kind{flow.KindTranslated}, b.kinds())
	})
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, nodeInVNet())
		pod, host := socket(r.pod, 8080), socket(r.peer, 41000)
		b.connects(host, pod)
		b.locally(pod, host, end, 1001, 5001)
		if end == "FA" {
			b.remotely(host, pod, end, 5001, 1002)
		}
		passes := nodeInVNet()
		for i := range passes.Routes {
			passes.Routes[i].Action = snat.PassThrough
		}
		b.becomes(passes)
		assert.Contains(t, b.remotely(host, pod, "S", 700000, 0), "bypass")
		assert.Empty(t, b.kinds())
		assert.Contains(t, b.locally(pod, host, "SA", 1, 700001), "bypass")
	})
}

// The next connection to a forward goes where new flows go: to a target that is one still, at
// the port it has now, and nowhere if a row drops it.
func TestReopenedForward(t *testing.T) {
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, backends(2))
		client, front := socket(r.s, 5000), socket(r.f, 80)
		vm := destination(b.remotely(client, front, "S", 5000, 0))
		b.locally(vm, client, "SA", 1000, 5001)
		b.remotely(client, front, "A", 5001, 1001)
		b.ends(vm, front, client, end)
		without := func(port uint16) snat.Config {
			c := backends(2)
			for i := range c.Forwards {
				f := &c.Forwards[i]
				f.Targets = slices.DeleteFunc(f.Targets, func(to snat.Target) bool { return to.Addr == netip.MustParseAddrPort(vm).Addr() })
				for j := range f.Targets {
					f.Targets[j].Port = port
				}
			}
			return c
		}
		b.becomes(route(backends(2), r, snat.Route{Action: snat.Blackhole}))
		assert.Equal(t, "drop route", b.remotely(client, front, "S", 700000, 0))
		b.becomes(backends(2))
		assert.Equal(t, vm, destination(b.remotely(client, front, "S", 700000, 0)))
		assert.EqualValues(t, 1, b.Stats().SessionsCreated)
		b.locally(vm, client, "RA", 0, 700001)

		b.becomes(without(8080))
		next := destination(b.remotely(client, front, "S", 800000, 0))
		assert.NotContains(t, next, "drop")
		assert.NotEqual(t, vm, next, "it has left")
		b.locally(next, client, "RA", 0, 800001)

		was := netip.MustParseAddrPort(next)
		b.becomes(without(9090))
		assert.Equal(t, fmt.Sprint(netip.AddrPortFrom(was.Addr(), 9090)), destination(b.remotely(client, front, "S", 900000, 0)))
		b.Check()
	})
}

// What a target begins on the sockets of a closed connection to it is for the rows, like all else
// that it begins.
func TestReopenedByTarget(t *testing.T) {
	eachEnd(t, func(t *testing.T, r realm, end string) {
		b := newBed(t, backends(1))
		client, front, vm := socket(r.s, 5000), socket(r.f, 80), socket(backend(0, r.is6()), 8080)
		b.remotely(client, front, "S", 5000, 0)
		b.locally(vm, client, "SA", 1000, 5001)
		b.remotely(client, front, "A", 5001, 1001)
		b.ends(vm, front, client, end)
		b.becomes(route(backends(1), r, snat.Route{Action: snat.PassThrough}))
		assert.Contains(t, b.locally(vm, client, "S", 700000, 0), "bypass")
		assert.Contains(t, b.locally(vm, client, "A", 700001, 1), "bypass")
		assert.Zero(t, b.Stats().SessionsActive)
	})
}
