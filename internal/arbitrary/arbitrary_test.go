package arbitrary

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type face interface{ isFace() }

type impl struct{ On bool }

func (*impl) isFace() {}

type other struct{}

// Whatever is in a value gets every value there is, sooner or later.
func TestChangeReachesEverything(t *testing.T) {
	type inner struct {
		Text   string
		Prefix netip.Prefix
	}
	type all struct {
		On     bool
		Number int
		Small  uint8
		Wait   time.Duration
		Addr   netip.Addr
		Inner  []inner
		Next   *inner
		Pair   [2]int64
		Hook   func()
		One    face
	}
	const seed = 5
	r := rand.New(rand.NewPCG(seed, 0))
	addr := netip.MustParseAddr("192.0.2.1")
	values := Values{Numbers: []int64{-1, 300}, Times: []time.Duration{0, 7}, Addrs: []netip.Addr{{}, addr}, Texts: []string{"", "a"},
		Types: []reflect.Type{reflect.TypeFor[*other](), reflect.TypeFor[*impl]()}}
	seen := map[string]bool{}
	x := all{Hook: func() {}}
	for range 20_000 {
		before := len(x.Inner)
		values.Change(r.IntN, reflect.ValueOf(&x).Elem())
		seen["shrinks"] = seen["shrinks"] || len(x.Inner) < before
		seen["on"] = seen["on"] || x.On
		seen["number"] = seen["number"] || x.Number == -1
		seen["cut to its size"] = seen["cut to its size"] || x.Small == 300-256
		seen["wait"] = seen["wait"] || x.Wait == 7
		seen["addr"] = seen["addr"] || x.Addr == addr
		seen["grows"] = seen["grows"] || len(x.Inner) > 2
		seen["nested"] = seen["nested"] || slices.Contains(x.Inner, inner{"a", netip.PrefixFrom(addr, 24)})
		seen["pointer"] = seen["pointer"] || x.Next != nil
		seen["no pointer"] = seen["no pointer"] || seen["pointer"] && x.Next == nil
		seen["array"] = seen["array"] || x.Pair == [2]int64{300, -1}
		i, ok := x.One.(*impl)
		seen["interface"] = seen["interface"] || ok && i.On
		seen["no interface"] = seen["no interface"] || seen["interface"] && x.One == nil
		seen["no hook"] = seen["no hook"] || x.Hook == nil
	}
	for what, ok := range seen {
		require.True(t, ok, what)
	}
	require.Panics(t, func() { values.Change(r.IntN, reflect.ValueOf(&map[int]int{}).Elem()) })
}
