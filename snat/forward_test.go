package snat_test

// Forwards: what comes to a frontend's port goes on to a target, and the answers go back.

import (
	"fmt"
	"net/netip"
	"slices"
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

// A client's connection and datagrams reach one target, and its answers come from the
// frontend.
func TestForward(t *testing.T) {
	for _, f := range realms {
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
						client, front := socket(f.s, port), socket(f.f, 80)
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
						if want := socket(backend(instance, f.is6()), 8080); !floating {
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
	for _, f := range realms {
		b := newBed(t, backends(1))
		vm := backend(0, f.is6())
		assert.Equal(t, socket(f.f, 1024), b.opens("tcp", socket(vm, 4000), socket(f.s, 443)))
		assert.Equal(t, socket(f.f, 1025), b.opens("tcp", socket(vm, 8080), socket(f.s, 443)))
		assert.Equal(t, socket(vm, 8080), destination(b.remotely(socket(f.s, 443), socket(f.f, 1025), "SA", 7, 1001)))
		assert.Equal(t, "drop no_flow", b.remotely(socket(f.s, 443), socket(f.f, 81), "S", 7, 0))
		// The same two sockets, begun outside: the forwarded flow wins.
		assert.Equal(t, socket(vm, 8080), destination(b.remotely(socket(f.s, 443), socket(f.f, 80), "S", 1, 0)))
		assert.Equal(t, socket(f.f, 80), source(b.locally(socket(vm, 8080), socket(f.s, 443), "SA", 50, 2)))
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
	for _, f := range realms {
		for _, floating := range []bool{false, true} {
			c := backends(1)
			c.Forwards[0].Policy = &snat.Policy{IdleTimeout: time.Minute, EnableTCPReset: true}
			c.Forwards[1].Policy = c.Forwards[0].Policy
			target := socket(backend(0, f.is6()), 8080)
			if floating {
				target = socket(f.f, 80)
				for i := range c.Forwards {
					c.Forwards[i].Floating, c.Forwards[i].Targets[0].Port = true, 0
				}
			}
			b := newBed(t, c)
			client, front := socket(f.s, 5000), socket(f.f, 80)
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

// Packets of the inside reach a forward if it lets them, and not if their own sender would
// be the target.
func TestForwardFromInside(t *testing.T) {
	for _, f := range realms {
		for _, floating := range []bool{false, true} {
			c := backends(2)
			client := snat.Instance{Name: "client", Addrs: []netip.Addr{addr("10.1.0.4"), addr("fd01::4")}}
			c.Instances = append(c.Instances, client)
			from := client.Addrs[0].String()
			if f.is6() {
				from = client.Addrs[1].String()
			}
			b := newBed(t, c)
			assert.Equal(t, "drop hairpin", b.opens("tcp", socket(from, 5000), socket(f.f, 80)))
			for i := range c.Forwards {
				c.Forwards[i].FromInside, c.Forwards[i].Floating = true, floating
				for j := range c.Forwards[i].Targets {
					if floating {
						c.Forwards[i].Targets[j].Port = 0
					}
				}
			}
			_, err := b.Reconfigure(b.now, c)
			require.NoError(t, err)
			for port := 5000; port < 5020; port++ {
				pkt := pkttest.TCP(socket(from, port), socket(f.f, 80), pkttest.SYN, pkttest.Seq(1000))
				v := b.Outbound(b.now, pkt)
				require.Equal(t, flow.Forward, v.Action)
				require.Equal(t, flow.Inside, v.To)
				target := destination(pkttest.String(pkt))
				want := socket(backend(int(v.Instance), f.is6()), 8080)
				if floating {
					want = socket(f.f, 80)
				}
				require.Equal(t, want, target)
				require.Equal(t, socket(f.f, 80), source(b.locally(target, socket(from, port), "SA", 9000, 1001)))
			}
			// One in two of a target's own connections comes to itself, and is dropped.
			loops := 0
			for port := 6000; port < 6040; port++ {
				pkt := pkttest.TCP(socket(backend(0, f.is6()), port), socket(f.f, 80), pkttest.SYN)
				switch v := b.Outbound(b.now, pkt); v.Action {
				case flow.Drop:
					require.Equal(t, flow.ReasonTargetLoop, v.Reason)
					loops++
				default:
					require.Equal(t, uint32(1), v.Instance)
				}
			}
			assert.InDelta(t, 20, loops, 12)
			i := 0
			if f.is6() {
				i = 1
			}
			stats := b.Forwards()[i]
			assert.Equal(t, uint64(loops), stats.Loops)
			assert.Equal(t, uint64(60-loops), stats.Created)
			assert.Equal(t, 60-loops, stats.Targets[0].Sessions+stats.Targets[1].Sessions)
			// Everything else goes on as before.
			assert.Equal(t, socket(f.f, 1024), b.opens("tcp", socket(backend(0, f.is6()), 4000), socket(f.s, 443)))
		}
	}
}

// Sessions stay with their target while the configuration changes around them.
func TestForwardReconfigure(t *testing.T) {
	for _, f := range realms {
		i := 0
		if f.is6() {
			i = 1
		}
		setUp := func(t *testing.T) (*bed, snat.Config, map[int]string) {
			c := backends(3)
			b, was := newBed(t, c), map[int]string{}
			for port := 5000; port < 5040; port++ {
				was[port] = destination(b.remotely(socket(f.s, port), socket(f.f, 80), "S", 1000, 0))
				b.locally(was[port], socket(f.s, port), "SA", 9000, 1001)
				b.remotely(socket(f.s, port), socket(f.f, 80), "A", 1001, 9001)
			}
			return b, c, was
		}
		reconfigure := func(t *testing.T, b *bed, c snat.Config) snat.Change {
			t.Helper()
			change, err := b.Reconfigure(b.now, c)
			require.NoError(t, err)
			b.Check()
			return change
		}
		// goOn checks that sessions carry packets in both directions.
		goOn := func(t *testing.T, b *bed, was map[int]string, but string) (others int) {
			t.Helper()
			for port := 5000; port < 5040; port++ {
				if but != "" && strings.HasPrefix(was[port], but) {
					others++
					continue
				}
				pkt := pkttest.TCP(socket(f.s, port), socket(f.f, 80), pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(9001))
				v := b.Inbound(b.now, pkt)
				require.False(t, v.New)
				require.Equal(t, was[port], destination(verdict(v, pkt)))
				require.Equal(t, socket(f.f, 80), source(b.locally(was[port], socket(f.s, port), "A", 9001, 1001)))
			}
			return others
		}
		t.Run(f.name+" pool shrinks and grows", func(t *testing.T) {
			b, c, was := setUp(t)
			c.Forwards[i].Targets = c.Forwards[i].Targets[1:]
			reconfigure(t, b, c)
			goOn(t, b, was, "")
			for port := 6000; port < 6020; port++ {
				require.NotContains(t, b.remotely(socket(f.s, port), socket(f.f, 80), "S", 1, 0), socket(backend(0, f.is6()), 8080))
			}
			assert.NotZero(t, b.Forwards()[i].Departed)
			reconfigure(t, b, c)
			goOn(t, b, was, "")
			c = backends(5)
			reconfigure(t, b, c)
			goOn(t, b, was, "")
			assert.Zero(t, b.Forwards()[i].Departed)
		})
		t.Run(f.name+" departed sockets are forgotten", func(t *testing.T) {
			b, c, _ := setUp(t)
			c.Forwards[i].Targets = c.Forwards[i].Targets[1:]
			reconfigure(t, b, c)
			b.at(time.Hour)
			reconfigure(t, b, c)
			reconfigure(t, b, c)
			assert.Zero(t, b.Stats().SessionsActive)
		})
		t.Run(f.name+" another policy", func(t *testing.T) {
			b, c, was := setUp(t)
			c.Forwards[i].Policy = &snat.Policy{IdleTimeout: time.Minute, EnableTCPReset: true}
			reconfigure(t, b, c)
			goOn(t, b, was, "")
			b.at(b.now.Duration() + time.Minute)
			assert.Len(t, b.sent(), 80)
		})
		t.Run(f.name+" instance removed", func(t *testing.T) {
			b, c, was := setUp(t)
			c.Instances = c.Instances[1:]
			for k := range c.Forwards {
				c.Forwards[k].Targets = c.Forwards[k].Targets[1:]
			}
			change := reconfigure(t, b, c)
			assert.Equal(t, goOn(t, b, was, socket(backend(0, f.is6()), 8080)), change.Total().Cut[snat.CutRemoved])
		})
		t.Run(f.name+" forward removed", func(t *testing.T) {
			b, c, _ := setUp(t)
			c.Forwards = nil
			assert.Equal(t, 40, reconfigure(t, b, c).Total().Cut[snat.CutForward])
			assert.Equal(t, "drop no_flow", b.remotely(socket(f.s, 5000), socket(f.f, 80), "A", 1001, 9001))
			assert.Empty(t, b.Forwards())
		})
		t.Run(f.name+" other port at the target", func(t *testing.T) {
			b, c, was := setUp(t)
			for k := range c.Forwards[i].Targets {
				c.Forwards[i].Targets[k].Port = 9090
			}
			reconfigure(t, b, c)
			goOn(t, b, was, "")
			assert.Contains(t, b.remotely(socket(f.s, 7000), socket(f.f, 80), "S", 1, 0), ":9090")
		})
		t.Run(f.name+" the port becomes another forward's", func(t *testing.T) {
			b, c, was := setUp(t)
			for k := range c.Instances {
				c.Instances[k].Ports = nil
			}
			own := c.Forwards[i]
			for _, next := range []snat.Forward{
				{FirstPort: 79, LastPort: 90, Policy: &snat.Policy{IdleTimeout: 5 * time.Minute}},
				{Policy: &snat.Policy{IdleTimeout: time.Minute, EnableTCPReset: true}},
				{FirstPort: 80, Policy: own.Policy},
				{FirstPort: 1, LastPort: 90},
				{Policy: &snat.Policy{IdleTimeout: 2 * time.Minute, EnableTCPReset: true}},
			} {
				next.Frontend = own.Frontend
				c.Forwards[i] = next
				reconfigure(t, b, c)
				goOn(t, b, was, "")
				assert.Equal(t, 40, b.Forwards()[i].Departed)
			}
			b.at(b.now.Duration() + 2*time.Minute - 1)
			assert.Empty(t, b.sent())
			b.at(b.now.Duration() + 1)
			assert.Len(t, b.sent(), 80, "its timers are those of the forward that has the port")
		})
		t.Run(f.name+" another forward with other timers takes the socket", func(t *testing.T) {
			for _, moves := range []bool{true, false} {
				b, c, was := setUp(t)
				other := c.Forwards[i]
				other.FirstPort, other.Policy = 443, &snat.Policy{IdleTimeout: time.Minute, EnableTCPReset: true}
				other.Targets = slices.Clone(other.Targets)
				if c.Forwards = append(c.Forwards, other); moves { // to another port of the targets
					for k := range c.Forwards[i].Targets {
						c.Forwards[i].Targets[k].Port = 9090
					}
				} else {
					c.Forwards = slices.Delete(c.Forwards, i, i+1)
				}
				assert.Equal(t, 40, reconfigure(t, b, c).Total().Cut[snat.CutForward])
				b.at(b.now.Duration() + time.Minute)
				assert.Empty(t, b.sent(), "nothing ends by the timers of the other")
				for port, to := range was {
					require.Equal(t, "drop no_flow", b.locally(to, socket(f.s, port), "SA", 9001, 1001))
				}
			}
		})
		t.Run(f.name+" another port leads to the target's", func(t *testing.T) {
			b, c, was := setUp(t)
			ports := func(at uint16) {
				for k := range c.Forwards[i].Targets {
					c.Forwards[i].Targets[k].Port = at
				}
			}
			ports(90)
			reconfigure(t, b, c)
			client := socket(f.s, 7000)
			old := destination(b.remotely(client, socket(f.f, 80), "S", 1, 0))
			require.Contains(t, old, ":90")
			c.Forwards[i].LastPort = 1000
			ports(0)
			assert.Equal(t, 1, reconfigure(t, b, c).Total().Cut[snat.CutForward])
			goOn(t, b, was, "") // nothing else leads to port 8080
			now := destination(b.remotely(client, socket(f.f, 90), "S", 1, 0))
			require.Contains(t, now, ":90")
			assert.Equal(t, socket(f.f, 90), source(b.locally(now, client, "SA", 9, 2)))
		})
		t.Run(f.name+" ports taken from an instance", func(t *testing.T) {
			b, c, _ := setUp(t)
			c.ReclaimGrace = time.Minute
			server := socket(f.s, 443)
			assert.Equal(t, socket(f.f, 1024), b.dials(socket(backend(0, f.is6()), 4000), server))
			for k := range c.Instances[0].Ports {
				c.Instances[0].Ports[k].First, c.Instances[0].Ports[k].Count = 1032, 56
			}
			c.Forwards = append(c.Forwards, snat.Forward{Frontend: addr("%s", f.f), FirstPort: 1030, Targets: []snat.Target{{Instance: "vm-2", Addr: addr("%s", backend(2, f.is6()))}}})
			assert.Equal(t, 1, reconfigure(t, b, c).Total().Cut[snat.CutReclaimed])
			assert.Equal(t, socket(backend(2, f.is6()), 1030), destination(b.remotely(server, socket(f.f, 1030), "S", 1, 0)))
			assert.Equal(t, socket(f.f, 1032), b.opens("tcp", socket(backend(0, f.is6()), 4001), server))
			c.Forwards = c.Forwards[:2]
			reconfigure(t, b, c)
			assert.Equal(t, "drop no_flow", b.remotely(server, socket(f.f, 1030), "A", 2, 0))
		})
	}
}

// ICMP errors about forwarded flows reach the other end, of either direction, with what that
// end had sent in their quote.
func TestForwardErrors(t *testing.T) {
	for _, floating := range []bool{false, true} {
		for _, batched := range []bool{false, true} {
			c := backends(3)
			c.ICMP.Errors = true
			c.Forwards[0].Floating = floating
			for j := range c.Forwards[0].Targets {
				if floating {
					c.Forwards[0].Targets[j].Port = 0
				}
			}
			b := newBed(t, c)
			send := func(from flow.Side, pkt []byte) string {
				v := make([]flow.Verdict, 1)
				switch {
				case batched && from == flow.Inside:
					b.OutboundBatch(b.now, [][]byte{pkt}, v)
				case batched:
					b.InboundBatch(b.now, [][]byte{pkt}, v)
				case from == flow.Inside:
					v[0] = b.Outbound(b.now, pkt)
				default:
					v[0] = b.Inbound(b.now, pkt)
				}
				return verdict(v[0], pkt)
			}
			for port := 5000; port < 5010; port++ {
				client, front := socket(serverA, port), socket(frontend, 80)
				arrived := pkttest.UDP(client, front, "x")
				v := b.Inbound(b.now, arrived)
				require.Equal(t, flow.Forward, v.Action)
				vm := backend(int(v.Instance), false)
				// The target has no such port: its client is told, as if by the frontend.
				sent := pkttest.ICMP(vm, serverA, 3, 3, 0, arrived)
				require.NotContains(t, send(flow.Inside, sent), "drop")
				pkttest.Check(t, sent, pkttest.ChecksumsOK(), pkttest.Src(frontend), pkttest.Dst(serverA))
				assert.Equal(t, pkttest.String(pkttest.UDP(client, front, "x")), pkttest.String(sent[28:]))
				// A router outside has not let the answer pass: the target is told.
				answer := pkttest.UDP(destination(pkttest.String(arrived)), client, "y")
				was := pkttest.String(answer)
				b.Outbound(b.now, answer)
				back := pkttest.ICMP("192.0.2.1", frontend, 3, 1, 0, answer)
				require.NotContains(t, send(flow.Outside, back), "drop")
				assert.Equal(t, was, pkttest.String(back[28:]))
				// About a flow that is none, nobody is told.
				stray := pkttest.UDP(socket(serverA, port+100), destination(pkttest.String(arrived)), "x")
				assert.Equal(t, "drop icmp_no_flow", send(flow.Inside, pkttest.ICMP(vm, serverA, 3, 3, 0, stray)))
			}
		}
	}
}

// Fragments reach the targets of a forward of all ports only. Where only those are carried,
// an instance's own are not.
func TestForwardFragments(t *testing.T) {
	for _, mode := range []snat.FragmentMode{snat.FragmentsDropped, snat.FragmentsVirtual, snat.FragmentsForwarded} {
		for _, all := range []bool{false, true} {
			c := backends(2)
			c.Fragments.Mode = mode
			for i := range c.Forwards {
				if all {
					c.Forwards[i].FirstPort = 0
					for j := range c.Forwards[i].Targets {
						c.Forwards[i].Targets[j].Port = 0
					}
				}
			}
			if all {
				for i := range c.Instances {
					c.Instances[i].Ports = nil
				}
			}
			b := newBed(t, c)
			first := firstFragment(socket(serverA, 5000), socket(frontend, 80))
			if all && mode != snat.FragmentsDropped {
				assert.NotContains(t, b.in(first), "drop", "%v", mode)
			} else {
				assert.Equal(t, "drop fragment", b.in(first), "%v", mode)
			}
			own := firstFragment(netip.AddrPortFrom(c.Instances[0].Addrs[0], 6000).String(), socket(serverA, 53))
			switch {
			case mode != snat.FragmentsVirtual:
				assert.Equal(t, "drop fragment", b.out(own), "%v", mode)
			case !all: // else it has no ports
				assert.NotContains(t, b.out(own), "drop", "%v", mode)
			}
		}
	}
}

// firstFragment returns the first fragment of a datagram.
func firstFragment(src, dst string) []byte {
	return pkttest.Fragments(pkttest.UDP(src, dst, strings.Repeat("x", 64)), 40, 7)[0]
}

// Packets of forwarded flows allocate nothing, in either direction.
func TestForwardNoAllocations(t *testing.T) {
	for _, floating := range []bool{false, true} {
		c := backends(3)
		c.Forwards[0].Floating = floating
		for j := range c.Forwards[0].Targets {
			if floating {
				c.Forwards[0].Targets[j].Port = 0
			}
		}
		n, err := snat.New(c)
		require.NoError(t, err)
		defer n.Close()
		in := pkttest.UDP(socket(serverA, 5000), socket(frontend, 80), "x")
		arrived := append([]byte(nil), in...)
		n.Inbound(0, arrived)
		out := pkttest.UDP(destination(pkttest.String(arrived)), socket(serverA, 5000), "y")
		pkts, verdicts := [][]byte{append([]byte(nil), in...)}, make([]flow.Verdict, 1)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			copy(pkts[0], in)
			n.Inbound(0, pkts[0])
			copy(pkts[0], in)
			n.InboundBatch(0, pkts, verdicts)
			copy(pkts[0], out)
			n.Outbound(0, pkts[0])
			copy(pkts[0], out)
			n.OutboundBatch(0, pkts, verdicts)
		}))
		require.Equal(t, flow.Forward, verdicts[0].Action)
	}
}
