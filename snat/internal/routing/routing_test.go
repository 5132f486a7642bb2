package routing_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/instances"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/routing"
)

// filled returns routes to two instances with the same inside address, the second in realm 7 and
// a target, sealed.
func filled() *routing.Routes {
	r := &routing.Routes{Until: ports.Never}
	r.Resize(66)
	r.SetTable(nil)
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.4")}
	for _, one := range []struct {
		index    uint32
		c        compiled.Instance
		targeted bool
	}{
		{0, compiled.Instance{Name: "a", Addrs: addrs}, false},
		{65, compiled.Instance{Name: "b", Addrs: addrs, Realm: 7}, true},
	} {
		inst := instances.New(&one.c, one.index, 0, nil)
		r.Instances[one.index] = inst
		r.Add(&one.c, inst, one.targeted)
	}
	r.Seal()
	return r
}

func TestRealmsHaveTheirOwnInsideAddresses(t *testing.T) {
	r := filled()
	from := ports.Tuple{Inside: [2]uint64{uint64(flow.Addr4(netip.MustParseAddr("10.0.0.4")))}}
	for realm, want := range map[uint32]*instances.Instance{0: r.Instances[0], 7: r.Instances[65], 8: nil} {
		in := r.Realm(realm)
		assert.Same(t, r, in.Whole, "realm %d", realm)
		mark := uint32(0)
		if want != nil {
			mark = r.Mark(want)
		}
		assert.Equal(t, mark, in.Source(&from), "realm %d", realm)
	}
	assert.Equal(t, uint32(7), r.Realm(7).ID)
}

func TestTargetsAreMarked(t *testing.T) {
	r := filled()
	assert.False(t, r.IsTargeted(r.Instances[0]))
	assert.True(t, r.IsTargeted(r.Instances[65]))
	assert.NotEqual(t, r.Mark(r.Instances[0])>>24, r.Mark(r.Instances[65])>>24, "one is to be looked at")
}

func TestAGraceEndsWhenItIsOver(t *testing.T) {
	r := filled()
	assert.False(t, r.Over(ports.Never), "nothing awaits removal")
	r.Until = 10
	assert.False(t, r.Over(9))
	assert.True(t, r.Over(10))
}
