package snat_test

// Values at the edge of their types, at the doors that are not fed with packets.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

func TestObserversOfExtremes(t *testing.T) {
	b := newBed(t, oneVM(8))
	b.opens("udp", vmA+":5000", serverA+":53")
	for by := snat.ByInstance; by <= snat.ByDestination; by++ {
		for _, k := range []int{math.MinInt, -1, 0} {
			assert.Empty(t, b.TopPorts(k, by))
		}
		assert.Len(t, b.TopPorts(math.MaxInt, by), 1)
	}
	_, ok := b.RealmOf(math.MaxUint32)
	assert.False(t, ok)
	assert.Zero(t, deterministic.Ports{}.Range())
	assert.Zero(t, deterministic.Ports{}.Len())
	assert.Equal(t, snat.Translate, snat.RouteTo([]snat.Route{{Action: snat.Blackhole}}, 9, netip.AddrPort{}))
	assert.Equal(t, snat.Translate, snat.RouteTo([]snat.Route{{Action: snat.Blackhole}}, snat.TCP, netip.MustParseAddrPort("203.0.113.1:0")), "an invalid prefix matches nothing")
}

// A deterministic mapping of arbitrary parameters is refused, or maps back what it
// has mapped.
func TestDeterministicOfExtremes(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	made := 0
	for range 3000 {
		d := everything().Instances[0].Deterministic
		for range 1 + r.IntN(3) {
			mutate(&script{fmt.Appendf(nil, "%c%c%c%c%c%c", r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256))}, reflect.ValueOf(d).Elem())
		}
		m, err := deterministic.New(*d)
		require.Equal(t, fmt.Sprint(d.Validate()), fmt.Sprint(err))
		if err != nil {
			continue
		}
		made++
		d.Record(math.MaxInt64)
		for _, a := range someAddrs {
			for range m.Dynamic(a) {
			}
			m.Inside(netip.AddrPortFrom(a, 1024))
			fixed, ok := m.Outside(a)
			if !ok {
				continue
			}
			require.Equal(t, m.Share(), fixed.Len())
			for i := 0; i < fixed.Len(); i += 1 + fixed.Len()/3 {
				inside, kind := m.Inside(netip.AddrPortFrom(fixed.Outside, fixed.At(i)))
				require.Equal(t, deterministic.Fixed, kind)
				require.Equal(t, a, inside)
			}
			fixed.Range()
		}
	}
	require.NotZero(t, made)
	t.Log("made", made)
}
