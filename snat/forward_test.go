package snat_test

// Forwards: what comes to a frontend's port goes on to a target, and the answers go back.

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// backend is the address of the i-th virtual machine of backends.
func backend(i int, is6 bool) string {
	if is6 {
		return fmt.Sprintf("fd00::%d:4", i)
	}
	return fmt.Sprintf("10.0.%d.4", i)
}

// backends is a configuration of n virtual machines with SNAT ports, and a forward of port
// 80 of the frontend of each family to port 8080 of all of them.
func backends(n int) snat.Config {
	c := snat.Config{}
	for i := range n {
		c.Instances = append(c.Instances, snat.Instance{
			Name:  fmt.Sprintf("vm-%d", i),
			Addrs: []netip.Addr{addr("%s", backend(i, false)), addr("%s", backend(i, true))},
			Ports: []snat.PortRange{
				{Frontend: addr(frontend), First: uint16(1024 + 64*i), Count: 64},
				{Frontend: addr(frontend6), First: uint16(1024 + 64*i), Count: 64},
			},
		})
	}
	for _, is6 := range []bool{false, true} {
		f := snat.Forward{Frontend: addr(frontend), FirstPort: 80}
		if is6 {
			f.Frontend = addr(frontend6)
		}
		for i := range n {
			f.Targets = append(f.Targets, snat.Target{Instance: c.Instances[i].Name, Addr: addr("%s", backend(i, is6)), Port: 8080})
		}
		c.Forwards = append(c.Forwards, f)
	}
	return c
}

// clients are the two ends of a flow from outside, by family.
var clients = []struct {
	name             string
	is6              bool
	client, frontend string
}{{"IPv4", false, serverA, frontend}, {"IPv6", true, serverA6, frontend6}}

// A client's connection and datagrams reach one target, and its answers come from the
// frontend.
func TestForward(t *testing.T) {
	for _, f := range clients {
		for _, proto := range []string{"tcp", "udp"} {
			for _, floating := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s floating=%v", f.name, proto, floating), func(t *testing.T) {
					c := backends(3)
					for i := range c.Forwards {
						c.Forwards[i].Floating = floating
						for j := range c.Forwards[i].Targets {
							if floating {
								c.Forwards[i].Targets[j].Port = 0
							}
						}
					}
					b := newBed(t, c)
					met := map[string]bool{}
					for port := 5000; port < 5100; port++ {
						client, front := socket(f.client, port), socket(f.frontend, 80)
						send := func(flags, payload string) string {
							pkt := pkttest.UDP(client, front, payload)
							if proto == "tcp" {
								pkt = pkttest.TCP(client, front, pkttest.TCPFlags(flags), pkttest.Seq(1000))
							}
							v := b.Inbound(b.now, pkt)
							pkttest.Check(t, pkt, pkttest.ChecksumsOK(), pkttest.Src(client))
							require.Equal(t, flow.Inside, v.To)
							return fmt.Sprintf("%d %s", v.Instance, destination(verdict(v, pkt)))
						}
						first := send("S", "hello")
						require.Equal(t, first, send("S", "hello again"))
						var instance int
						var target string
						fmt.Sscanf(first, "%d %s", &instance, &target)
						met[first] = true
						if want := socket(backend(instance, f.is6), 8080); !floating {
							require.Equal(t, want, target)
						} else {
							require.Equal(t, front, target)
						}
						pkt := pkttest.UDP(target, client, "hi")
						if proto == "tcp" {
							pkt = pkttest.TCP(target, client, pkttest.TCPFlags("SA"), pkttest.Seq(9000), pkttest.Ack(1001))
						}
						v := b.Outbound(b.now, pkt)
						require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: uint32(instance)}, v)
						pkttest.Check(t, pkt, pkttest.ChecksumsOK(), pkttest.Src(front), pkttest.Dst(client))
						b.Check()
					}
					assert.Len(t, met, 3)
					s := b.Stats()
					assert.Equal(t, uint64(100), s.SessionsCreated)
					assert.Zero(t, s.Ports.Total())
					for info := range b.Sessions() {
						require.Equal(t, flow.KindForwarded, info.Kind)
					}
				})
			}
		}
	}
}

// What targets send that is no answer is translated as usual, also from the very socket
// that answers.
func TestForwardTargetSendsItself(t *testing.T) {
	for _, f := range clients {
		b := newBed(t, backends(1))
		vm := backend(0, f.is6)
		assert.Equal(t, socket(f.frontend, 1024), b.opens("tcp", socket(vm, 4000), socket(f.client, 443)))
		assert.Equal(t, socket(f.frontend, 1025), b.opens("tcp", socket(vm, 8080), socket(f.client, 443)))
		assert.Equal(t, socket(vm, 8080), destination(b.remotely(socket(f.client, 443), socket(f.frontend, 1025), "SA", 7, 1001)))
		assert.Equal(t, "drop no_flow", b.remotely(socket(f.client, 443), socket(f.frontend, 81), "S", 7, 0))
		// The same two sockets, begun outside: the forwarded flow wins.
		assert.Equal(t, socket(vm, 8080), destination(b.remotely(socket(f.client, 443), socket(f.frontend, 80), "S", 1, 0)))
		assert.Equal(t, socket(f.frontend, 80), source(b.locally(socket(vm, 8080), socket(f.client, 443), "SA", 50, 2)))
	}
}

// Targets that take no new flows: TCP stays, UDP moves, and without any target new flows
// are dropped.
func TestForwardTargetStates(t *testing.T) {
	c := backends(2)
	b := newBed(t, c)
	front := socket(frontend, 80)
	hit := func(proto string, port int) string {
		client := socket(serverA, port)
		if proto == "udp" {
			return destination(b.in(pkttest.UDP(client, front, "x")))
		}
		return destination(b.in(pkttest.TCP(client, front, pkttest.ACK, pkttest.Seq(1))))
	}
	was := map[string]string{}
	for port := 1; port <= 40; port++ {
		for _, proto := range []string{"tcp", "udp"} {
			was[fmt.Sprint(proto, port)] = hit(proto, port)
		}
	}
	set := func(states ...snat.TargetState) {
		var changes []snat.TargetChange
		for i, s := range states {
			changes = append(changes, snat.TargetChange{Forward: 0, Target: i, State: s})
		}
		require.NoError(t, b.SetTargets(b.now, changes...))
		b.Check()
	}
	gone, left := socket(backend(0, false), 8080), socket(backend(1, false), 8080)
	set(snat.TargetDown, snat.TargetUp)
	for port := 1; port <= 40; port++ {
		assert.Equal(t, was[fmt.Sprint("tcp", port)], hit("tcp", port), "connections stay")
		assert.Equal(t, left, hit("udp", port), "datagrams move")
		assert.Equal(t, left, hit("tcp", 100+port), "new ones go to those that are up")
	}
	assert.NotZero(t, b.Stats().Cut[snat.CutTarget])
	set(snat.TargetDown, snat.TargetDown)
	for port := 1; port <= 40; port++ {
		assert.Equal(t, was[fmt.Sprint("tcp", port)], hit("tcp", port), "connections stay")
		assert.Equal(t, "drop no_target", hit("udp", port))
		assert.Equal(t, "drop no_target", hit("tcp", 200+port))
	}
	set(snat.TargetGone, snat.TargetUp)
	for port := 1; port <= 40; port++ {
		assert.Equal(t, left, hit("tcp", port), "those of the target that is gone begin anew")
	}
	for info := range b.Sessions() {
		assert.NotEqual(t, gone, info.Inside.String())
	}
	assert.Empty(t, b.sent(), "silently")
	err := b.SetTargets(b.now, snat.TargetChange{Forward: 2}, snat.TargetChange{Target: 2}, snat.TargetChange{State: 9})
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorContains(t, err, "changes[0].Forward")
	assert.ErrorContains(t, err, "changes[1].Target")
	assert.ErrorContains(t, err, "changes[2].State")
}

// An idle connection is reset at both ends, each with the addresses that it knows.
func TestForwardReset(t *testing.T) {
	for _, f := range clients {
		for _, floating := range []bool{false, true} {
			c := backends(1)
			c.Forwards[0].Policy = &snat.Policy{IdleTimeout: time.Minute, EnableTCPReset: true}
			c.Forwards[1].Policy = c.Forwards[0].Policy
			target := socket(backend(0, f.is6), 8080)
			if floating {
				target = socket(f.frontend, 80)
				for i := range c.Forwards {
					c.Forwards[i].Floating, c.Forwards[i].Targets[0].Port = true, 0
				}
			}
			b := newBed(t, c)
			client, front := socket(f.client, 5000), socket(f.frontend, 80)
			b.remotely(client, front, "S", 1000, 0)
			b.locally(target, client, "SA", 9000, 1001)
			b.remotely(client, front, "A", 1001, 9001)
			b.at(59 * time.Second)
			assert.Empty(t, b.sent())
			b.at(time.Minute)
			sent := strings.Join(b.sent(), "\n")
			assert.Equal(t, 2, strings.Count(sent, " R seq="), sent)
			assert.Contains(t, sent, "inside TCP "+client+" > "+target)
			assert.Contains(t, sent, "outside TCP "+front+" > "+client)
			// Stragglers are answered, and another connection begins in its place.
			b.locally(target, client, "A", 9001, 1001)
			b.at(time.Minute + time.Second)
			assert.Len(t, b.sent(), 1)
			assert.Equal(t, target, destination(b.remotely(client, front, "S", 7000, 0)))
			b.at(time.Hour)
			assert.Zero(t, b.Stats().SessionsActive)
		}
	}
}
