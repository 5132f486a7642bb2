package hostports

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

func tcp(n uint16) Port { return Port{n, wire.ProtoTCP} }
func udp(n uint16) Port { return Port{n, wire.ProtoUDP} }

func TestAzure_56_variables(t *testing.T) {
	require.Equal(t, "echoserver-hostport_PORT_8080_TCP_HOSTPORT", Variable("echoserver-hostport", tcp(8080)))
	require.Equal(t, "dns_PORT_53_UDP_HOSTPORT", Variable("dns", udp(53)))
	var v Inventory
	ports, err := Parse("8080/tcp,8443/tcp", []Port{tcp(8080), tcp(8443), tcp(9000)})
	require.NoError(t, err)
	all, err := v.Assign("n0", "echo", ports)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.NotEqual(t, all[0].Host.Number, all[1].Host.Number)
	for _, b := range all {
		require.True(t, First <= b.Host.Number && b.Host.Number <= Last)
		pod, container, ok := v.Lookup("n0", b.Host)
		require.True(t, ok)
		require.Equal(t, "echo", pod)
		require.Equal(t, b.Container, container)
	}
}

// 20,000 ports are given once each, then no more until one is back.
func TestAzure_57_exhaustion(t *testing.T) {
	var v Inventory
	seen := make(map[uint16]bool)
	for i := range count / 2 {
		all, err := v.Assign(fmt.Sprint("n", i%7), fmt.Sprint("p", i), []Port{tcp(80), udp(80)})
		require.NoError(t, err)
		for _, b := range all {
			require.False(t, seen[b.Host.Number])
			seen[b.Host.Number] = true
		}
	}
	require.Zero(t, v.Free())
	_, err := v.Assign("n0", "late", []Port{tcp(80)})
	require.ErrorIs(t, err, ErrExhausted)
	require.Empty(t, v.Of("late"))
	v.Release("p3")
	_, err = v.Assign("n0", "late", []Port{tcp(1), tcp(2), tcp(3)})
	require.ErrorIs(t, err, ErrExhausted, "all or none")
	all, err := v.Assign("n0", "late", []Port{tcp(1), tcp(2)})
	require.NoError(t, err)
	require.EqualValues(t, 40006, all[0].Host.Number)
}

func TestParse_refuses(t *testing.T) {
	spec := []Port{tcp(8080), udp(53)}
	for value, is := range map[string]error{
		"": flow.ErrSyntax, "8080": flow.ErrSyntax, "8080-8081/tcp": flow.ErrSyntax, "8080/sctp": flow.ErrSyntax, "0/tcp": flow.ErrSyntax, "8080/tcp,": flow.ErrSyntax,
		"53/tcp": flow.ErrUnknownName, "8080/tcp,8080/TCP": flow.ErrDuplicateName,
	} {
		ports, err := Parse(value, spec)
		require.Nil(t, ports)
		require.ErrorIs(t, err, is, value)
		require.ErrorContains(t, err, Annotation+"[")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"8080/tcp,53/udp", " 8080 / TCP ", "8080", "1-2/tcp", ",", "99999/udp"} {
		f.Add(s)
	}
	spec := []Port{tcp(8080), udp(53), tcp(1), udp(65535)}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := Parse(s, spec)
		require.Equal(t, err != nil, ports == nil)
		for i, p := range ports {
			require.Contains(t, spec, p)
			require.NotContains(t, ports[:i], p)
		}
	})
}

// model is the inventory as a list.
type model []entry

type entry struct {
	node, pod string
	Binding
}

func (m model) has(match func(e entry) bool) bool {
	for _, e := range m {
		if match(e) {
			return true
		}
	}
	return false
}

func TestInventory_model(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var (
		v Inventory
		m model
	)
	for range pkttest.Operations(2_000, 10_000, 1_000_000) {
		k := r.IntN(60)
		pod, node, container := fmt.Sprint("p", k), fmt.Sprint("n", k%4), Port{uint16(1 + r.IntN(5)), []uint8{wire.ProtoTCP, wire.ProtoUDP}[r.IntN(2)]}
		switch r.IntN(4) {
		case 0, 1:
			all, err := v.Assign(node, pod, []Port{container})
			require.NoError(t, err)
			require.False(t, m.has(func(e entry) bool { return e.Host.Number == all[0].Host.Number }), "unique in the cluster")
			m = append(m, entry{node, pod, all[0]})
		case 2:
			b := Binding{Host: Port{uint16(39_990 + r.IntN(40)), container.Protocol}, Container: container}
			err := v.Bind(node, pod, b.Host.Number, container)
			taken := m.has(func(e entry) bool { return e.node == node && e.Host == b.Host })
			require.Equal(t, taken, err != nil)
			if !taken {
				m = append(m, entry{node, pod, b})
			}
		case 3:
			v.Release(pod)
			var rest model
			for _, e := range m {
				if e.pod != pod {
					rest = append(rest, e)
				}
			}
			m = rest
		}
		used := make(map[uint16]bool)
		var of []Binding
		for _, e := range m {
			if First <= e.Host.Number && e.Host.Number <= Last {
				used[e.Host.Number] = true
			}
			if e.pod == pod {
				of = append(of, e.Binding)
			}
		}
		require.Equal(t, count-len(used), v.Free())
		require.Equal(t, of, v.Of(pod))
	}
}
