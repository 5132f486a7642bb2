package snat_test

// Sockets whose port is another's towards a destination: Azure lets a new flow fail
// only if no owned port is usable for it.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// crowded is one VM with pods and so many ports, whose UDP is mapped as b says.
func crowded(ports int, b snat.Behavior) snat.Config {
	c := oneVM(ports)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	ownedPorts(&c).UDP = b
	return c
}

// outside returns the outside socket of a port of the VM.
func outside(port int) string { return socket(frontend, port) }

const (
	sockA, sockB     = "10.244.0.9:5000", "10.244.0.9:5001"
	stunA, stunB     = "203.0.113.1:3478", "203.0.113.2:3478"
	stunA99, stunB99 = "203.0.113.1:99", "203.0.113.2:99"
)

func TestSocketTakesAnotherPortWhereItsOwnIsTaken(t *testing.T) {
	b := newBed(t, crowded(1024, snat.Behavior{}))
	require.Equal(t, outside(1024), b.opens("udp", sockA, stunA))
	require.Equal(t, outside(1024), b.opens("udp", sockB, stunB), "shared: the destinations differ")
	require.Equal(t, outside(1025), b.opens("udp", sockB, stunA), "the first two are one port towards this one")

	for _, row := range []struct{ what, src, dst, want string }{
		{"the same flow", sockB, stunA, outside(1025)},
		{"another port of that destination", sockB, stunA99, outside(1025)},
		{"another port of the first destination", sockB, stunB99, outside(1024)},
		{"a new destination", sockB, "203.0.113.3:3478", outside(1024)},
		{"the other socket where it was", sockA, stunA99, outside(1024)},
		{"the other socket where it meets the first", sockA, stunB, outside(1025)},
	} {
		assert.Equal(t, row.want, b.opens("udp", row.src, row.dst), row.what)
	}
	for _, row := range []struct{ what, src, dst, want string }{
		{"to the further port", stunA, outside(1025), sockB},
		{"to the further port, another remote port", "203.0.113.1:1", outside(1025), "drop filtered"},
		{"to the first port, by the owner there", stunA, outside(1024), sockA},
		{"to the further port, by the other's remote", stunB, outside(1025), sockA},
		{"to the further port, by a stranger", "203.0.113.3:3478", outside(1025), "drop filtered"},
	} {
		assert.Equal(t, row.want, destination(b.knocks("udp", row.src, row.dst)), row.what)
	}

	b.at(5 * time.Minute)
	assert.Equal(t, snat.PoolStats{Protocol: snat.UDP, Allocated: 1024, Free: 1024, Peak: 2}, b.pool(false, snat.UDP))
}

// A remote keeps seeing the port that it has seen, as long as it sees the socket.
func TestSocketKeepsItsFurtherPortTowardsADestination(t *testing.T) {
	b := newBed(t, crowded(8, snat.Behavior{}))
	b.opens("udp", sockA, stunA)
	b.opens("udp", sockB, stunB)
	b.at(time.Minute)
	require.Equal(t, outside(1025), b.opens("udp", sockB, stunA))
	b.at(4*time.Minute + time.Second) // both first ports are free everywhere
	require.EqualValues(t, 1, b.Stats().SessionsActive)
	assert.Equal(t, outside(1025), b.opens("udp", sockB, stunA99))
	assert.Equal(t, outside(1024), b.opens("udp", sockB, stunB), "its usual mapping, made again")
	assert.Equal(t, outside(1025), b.opens("udp", sockB, stunA))
	b.at(9 * time.Minute)
	assert.Equal(t, outside(1024), b.opens("udp", sockB, stunA), "all forgotten")
}

// Who promises one port for all destinations shares none, so none is ever another's.
func TestNAT_U11_WhereSocketsMeet(t *testing.T) {
	meet := func(b *bed) (first, where string) {
		b.opens("udp", sockA, stunA)
		first = b.opens("udp", sockB, stunB)
		return first, b.opens("udp", sockB, stunA)
	}
	t.Run("rfc", func(t *testing.T) {
		first, where := meet(newBed(t, crowded(8, snat.Behavior{Share: snat.ShareNever})))
		assert.Equal(t, outside(1025), first)
		assert.Equal(t, first, where)
	})
	t.Run("azure", func(t *testing.T) {
		first, where := meet(newBed(t, crowded(8, snat.Behavior{})))
		assert.Equal(t, outside(1024), first)
		assert.Equal(t, outside(1025), where)
	})
}

// Refused if and only if no owned port is usable: whatever sockets talk to whatever
// peers, nothing is refused while a port is free for the destination.
func TestSocketsAreRefusedOnlyWhereNoPortIsUsable(t *testing.T) {
	for _, share := range []snat.PortShare{snat.SharePerAddress, snat.SharePerDestination} {
		for _, m := range []snat.Mapping{snat.EndpointIndependent, snat.AddressDependent, snat.AddressAndPortDependent, snat.PerConnection} {
			t.Run(fmt.Sprint(m, share), func(t *testing.T) {
				b := newBed(t, crowded(16, snat.Behavior{Mapping: m, Share: share}))
				random := rand.New(rand.NewPCG(1, uint64(m)))
				users := map[string]map[string]bool{} // by peer
				for range 2000 {
					src, dst := socket("10.244.0.9", 5000+random.IntN(40)), socket(fmt.Sprintf("203.0.113.%d", 1+random.IntN(6)), 3478)
					if users[dst] == nil {
						users[dst] = map[string]bool{}
					}
					got := b.opens("udp", src, dst)
					if !users[dst][src] && len(users[dst]) == 16 {
						require.Equal(t, "drop ports", got)
						continue
					}
					users[dst][src] = true
					require.NotContains(t, got, "drop", "%v to %v, which has %d flows", src, dst, len(users[dst]))
				}
			})
		}
	}
}

// Two hundred sockets with three of fifty peers each, as conferences have them.
func TestConferenceIsNotRefusedWithIdlePorts(t *testing.T) {
	b := newBed(t, crowded(1024, snat.Behavior{}))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		for _, peer := range random.Perm(50)[:3] {
			require.NotContains(t, b.opens("udp", socket("10.244.0.9", 5000+i), socket(fmt.Sprintf("198.51.100.%d", 1+peer), 3478)), "drop")
		}
	}
	assert.Zero(t, b.Stats().ConnectionsFailed)
	assert.Less(t, b.pool(false, snat.UDP).Used, 64, "ports are shared as before")
}

// Who may send to which of a socket's ports follows from what it has sent by it.
func TestFurtherPortAdmitsItsDestinationOnly(t *testing.T) {
	c := crowded(8, snat.Behavior{Filtering: snat.AddressDependentFiltering, Share: snat.SharePerAddress})
	b := newBed(t, c)
	b.opens("udp", sockA, stunA)
	b.opens("udp", sockB, stunB)
	require.Equal(t, outside(1025), b.opens("udp", sockB, stunA))
	assert.Equal(t, sockB, destination(b.knocks("udp", stunA99, outside(1025))))
	assert.Equal(t, "drop filtered", b.knocks("udp", stunB99, outside(1025)))
	assert.Equal(t, sockB, destination(b.knocks("udp", stunB99, outside(1024))))
	assert.Equal(t, sockA, destination(b.knocks("udp", stunA99, outside(1024))))
	assert.Equal(t, outside(1025), b.opens("udp", sockB, stunA99), "the answer leaves where it came in")
}

func TestFurtherMappingsCount(t *testing.T) {
	c := crowded(8, snat.Behavior{})
	ownedPorts(&c).Limits.UDPPorts = 2
	b := newBed(t, c)
	other := func(port int) string { return socket("10.244.0.8", port) }
	for i := range 3 {
		b.opens("udp", other(5000), socket(fmt.Sprintf("203.0.113.%d", i), 3478))
	}
	require.Equal(t, outside(1024), b.opens("udp", sockA, "203.0.113.9:3478"))
	require.Equal(t, outside(1025), b.opens("udp", sockA, "203.0.113.0:3478"))
	assert.Equal(t, "drop quota", b.opens("udp", sockA, stunA), "a third mapping")
	assert.Equal(t, outside(1025), b.opens("udp", sockA, "203.0.113.0:99"))
	for _, s := range b.Subscribers() {
		if s.Addr.String() == "10.244.0.9" {
			assert.Equal(t, 2, s.UDPPorts)
		}
	}
}

func TestFurtherMappingIsABindingInTheLog(t *testing.T) {
	var events []snat.Event
	c := crowded(8, snat.Behavior{})
	c.Log.Bindings = true
	c.Hooks.Event = func(e snat.Event) { events = append(events, e) }
	b := newBed(t, c)
	b.opens("udp", sockA, stunA)
	b.opens("udp", sockB, stunB)
	b.opens("udp", sockB, stunA)
	b.opens("udp", sockB, stunA99)
	b.at(time.Hour)
	bound := map[string]int{}
	for _, e := range events {
		bound[fmt.Sprintf("%v %v %v", e.Kind, e.Inside, e.Outside)]++
	}
	want := map[string]int{}
	for _, s := range []string{sockA + " " + outside(1024), sockB + " " + outside(1024), sockB + " " + outside(1025)} {
		want[fmt.Sprintf("%v %s", snat.EventBindingCreate, s)], want[fmt.Sprintf("%v %s", snat.EventBindingDelete, s)] = 1, 1
	}
	assert.Equal(t, want, bound)
}

func TestFurtherMappingsSurviveReconfiguration(t *testing.T) {
	c := crowded(8, snat.Behavior{})
	b := newBed(t, c)
	b.opens("udp", sockA, stunA)
	b.opens("udp", sockB, stunB)
	b.opens("udp", sockB, stunA)
	c.Instances[0].Ports = append([]snat.PortRange{{Frontend: addr("203.0.113.11"), First: 2048, Count: 8}}, c.Instances[0].Ports...)
	_, err := b.Reconfigure(b.now, c)
	require.NoError(t, err)
	b.Check()
	assert.Equal(t, outside(1025), b.opens("udp", sockB, stunA99))
	assert.Equal(t, outside(1024), b.opens("udp", sockB, stunB99))
	assert.Equal(t, outside(1024), b.opens("udp", sockA, stunA99))
	assert.Equal(t, "203.0.113.11:2048", b.opens("udp", sockA, stunB), "and new ones are on what comes first now")

	// The port of the usual mapping is lost, but awaits removal: the flows apart stay where they are.
	c.Instances[0].Ports, c.ReclaimGrace = c.Instances[0].Ports[:1], time.Minute
	_, err = b.Reconfigure(b.now, c)
	require.NoError(t, err)
	b.Check()
	assert.Equal(t, outside(1025), b.opens("udp", sockB, "203.0.113.1:98"))
	assert.Equal(t, outside(1024), b.opens("udp", sockB, "203.0.113.4:99"))
	b.at(2 * time.Minute)
	assert.Equal(t, "203.0.113.11:2048", b.opens("udp", sockB, stunA))
}

// However many mappings a socket has, it looks at two places.
func TestManyMappingsOfOneSocketAreFoundAtOnce(t *testing.T) {
	b := newBed(t, crowded(64, snat.Behavior{}))
	b.seldom = true
	peer := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	for i := range 1000 {
		require.Equal(t, outside(1024), b.opens("udp", sockA, netip.AddrPortFrom(peer(i), 53).String()))
	}
	require.Equal(t, outside(1024), b.opens("udp", sockB, stunA))
	for i := range 1000 {
		require.Equal(t, outside(1025), b.opens("udp", sockB, netip.AddrPortFrom(peer(i), 53).String()))
	}
	b.Check()
	assert.LessOrEqual(t, b.Census().LongestMappingSearch, 2)
	b.at(flow.MaxTimeout)
}
