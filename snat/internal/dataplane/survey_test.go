package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// holdUp is a translator of instances 0..n-1, each with an inside address, 64 ports and a
// number of flows; 32 of them share a frontend.
type holdUp struct {
	nat    NAT
	config compiled.Config
}

const flowsEach = 8

func newHoldUp(t *testing.T, n int) *holdUp {
	b := ports.Behavior{Mapping: ports.PerConnection, Sharing: ports.PerDestination, Claim: ports.PerDestination, PerFlow: true}
	h := &holdUp{config: compiled.Config{
		Policies: []compiled.Policy{{Timeouts: flow.RFCTimeouts()}},
		Ports:    ports.Rules{Behaviors: [ports.NumPools]ports.Behavior{b, b, b}}, Exclusions: new(ports.Exclusions),
	}}
	for i := range n {
		h.config.Instances = append(h.config.Instances, instanceOf(i))
	}
	require.NoError(t, h.nat.Init(compiled.Fixed{Shards: 4, HashKey: 1, AlarmInterval: 1, ErrorRate: 1, ErrorBurst: 1}, h.next()))
	t.Cleanup(h.nat.Close)
	for i := range n {
		h.open(t, i, flowsEach)
	}
	return h
}

func instanceOf(i int) compiled.Instance {
	return compiled.Instance{
		Name: fmt.Sprint("i", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
		Ports: []compiled.Grant{{Frontend: netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 32)}), TCP: true, First: uint16(1024 + i%32*64), Count: 64}},
	}
}

// next returns a copy of the configuration, which a translator may have.
func (h *holdUp) next() compiled.Config {
	c := h.config
	c.Instances, c.Forwards = slices.Clone(c.Instances), slices.Clone(c.Forwards)
	return c
}

// open lets an instance open TCP connections.
func (h *holdUp) open(t *testing.T, i, flows int) {
	for k := range flows {
		p := pkttest.TCP(fmt.Sprintf("10.0.%d.%d:%d", i>>8, i&255, 5000+k), "198.51.100.9:443", pkttest.TCPFlags("S"))
		require.Equal(t, flow.Forward, h.nat.Outbound(0, p).Action)
	}
}

// change puts h.config into force as Reconfigure does, with traffic between its survey and
// the moment, and returns the layout.
func (h *holdUp) change(traffic func(*layout)) *layout {
	h.nat.changing.Lock()
	defer h.nat.changing.Unlock()
	c := h.next()
	l := h.nat.lay(&c, false, false)
	l.compare()
	h.nat.survey(0, l)
	traffic(l)
	h.nat.makeShards(l.inhabited())
	h.nat.replace(0, c, l)
	return l
}

// numNoted returns how many sessions were looked at at the moment of the change.
func (l *layout) numNoted() (n int) {
	for _, ids := range l.noted {
		n += len(ids)
	}
	return n
}

// A change touches what it changes, however much there is besides: instances and frontends
// that go on are the same ones, and their sessions are not looked at while packets wait.
func TestReconfigureTouchesWhatChanges(t *testing.T) {
	const n = 500
	service := compiled.Forward{
		Spec: forwards.Spec{
			Addr: netip.MustParseAddr("192.0.2.7"), TCP: true, First: 80, Last: 80,
			Targets: []forwards.Target{{Addr: ports.Packed(netip.MustParseAddr("10.0.0.1")), Port: 8080, Name: 1}},
		},
		Instances: []string{"i1"},
	}
	for _, tt := range []struct {
		name             string
		do               func(c *compiled.Config)
		fresh, frontends int // that are not the ones of before
		noted            int // sessions, three of which begin after the survey
	}{
		{"nothing", func(*compiled.Config) {}, 0, 0, 0},
		{"instance added", func(c *compiled.Config) { c.Instances = append(c.Instances, instanceOf(n)) }, 1, 1, 0},
		{"instance removed", func(c *compiled.Config) { c.Instances = slices.Delete(c.Instances, 7, 8) }, 0, 1, flowsEach + 3},
		{"ports", func(c *compiled.Config) { c.Instances[7].Ports = instanceOf(n).Ports }, 1, 2, flowsEach + 3},
		{"frontend before others", func(c *compiled.Config) {
			g := compiled.Grant{Frontend: netip.MustParseAddr("192.0.2.1"), TCP: true, First: 1024, Count: 64}
			c.Instances[7].Ports = []compiled.Grant{g, c.Instances[7].Ports[0]}
		}, 1, 1, flowsEach + 3},
		{"forward added", func(c *compiled.Config) { c.Forwards = []compiled.Forward{service} }, 0, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHoldUp(t, n)
			was := h.nat.routes.Load()
			tt.do(&h.config)
			l := h.change(func(*layout) {
				for k := range 3 {
					p := pkttest.TCP(fmt.Sprintf("10.0.0.7:%d", 6000+k), "198.51.100.9:443", pkttest.TCPFlags("S"))
					require.Equal(t, flow.Forward, h.nat.Outbound(0, p).Action)
				}
			})
			is := h.nat.routes.Load()
			fresh, frontends := 0, 0
			for i, inst := range is.Instances {
				if inst != nil && (i >= len(was.Instances) || was.Instances[i] != inst) {
					fresh++
				}
			}
			for i, f := range is.Frontends {
				if f != nil && (i >= len(was.Frontends) || was.Frontends[i] != f) {
					frontends++
				}
			}
			assert.Equal(t, tt.fresh, fresh)
			assert.Len(t, l.fresh, tt.fresh)
			assert.Equal(t, tt.frontends, frontends)
			assert.Equal(t, tt.noted, l.numNoted())
			for _, sh := range h.nat.all() {
				assert.Nil(t, sh.layout)
			}
		})
	}
}

// Who observes does not wait for a change that is being prepared.
func TestObserversGoOnWhileAChangeIsPrepared(t *testing.T) {
	h := newHoldUp(t, 4)
	h.config.Instances = h.config.Instances[1:]
	h.change(func(*layout) {
		assert.Equal(t, 4*flowsEach, h.nat.Stats().Active)
		h.nat.Frontends(func(*ports.Frontend) {})
		n := 0
		h.nat.Instances(func(*ports.State, *ports.Instance, [2]uint64) { n++ })
		assert.Equal(t, 4, n)
	})
	assert.Equal(t, 3*flowsEach, h.nat.Stats().Active)
}

// Of forwarded sessions those are looked at whose forward or target changes.
func TestReconfigureTouchesForwardsThatChange(t *testing.T) {
	h := newHoldUp(t, 4)
	forwardTo := func(port uint16, instance int) compiled.Forward {
		inst := instanceOf(instance)
		return compiled.Forward{
			Spec: forwards.Spec{
				Addr: netip.MustParseAddr("192.0.2.7"), TCP: true, First: port, Last: port,
				Targets: []forwards.Target{{Addr: ports.Packed(inst.Addrs[0]), Port: 8080 + port, Name: uint64(instance)}},
			},
			Instances: []string{inst.Name},
		}
	}
	h.config.Forwards = []compiled.Forward{forwardTo(80, 1), forwardTo(81, 2)}
	h.nat.Reconfigure(0, h.next(), false)
	begin := func(port, from uint16) {
		p := pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", from), fmt.Sprintf("192.0.2.7:%d", port), pkttest.TCPFlags("S"))
		require.Equal(t, flow.Forward, h.nat.Inbound(0, p).Action)
	}
	for k := range uint16(100) {
		begin(80, 5000+k)
		begin(81, 5000+k)
	}
	h.config.Forwards = append(h.config.Forwards, forwardTo(82, 3))
	l := h.change(func(*layout) { begin(80, 6000) })
	assert.Zero(t, l.numNoted(), "a forward is added")
	h.config.Forwards = h.config.Forwards[1:]
	l = h.change(func(*layout) { begin(80, 6001) })
	assert.Equal(t, 102, l.numNoted(), "one is removed")
	cut := uint64(0)
	for _, sh := range h.nat.all() {
		cut += sh.counters.Cut[counters.CutForward]
	}
	assert.Equal(t, uint64(102), cut)
}

// What was noted may have ended by the moment, and its ID may be that of a session that
// goes on.
func TestSurveyOutlivedByItsSessions(t *testing.T) {
	h := newHoldUp(t, 8)
	h.config.Instances = h.config.Instances[:7]
	gone := h.nat.order[7]
	l := h.change(func(l *layout) {
		sh := h.nat.shards[gone.Shard]
		ids := slices.Clone(l.noted[sh.number])
		require.Len(t, ids, flowsEach)
		for _, id := range ids {
			sh.remove(id, sh.At(id))
		}
		for i, inst := range h.nat.order[:7] {
			if inst.Shard == gone.Shard {
				h.open(t, i, 2*flowsEach)
			}
		}
		for _, id := range ids {
			assert.True(t, sh.Has(id), "it is another session's")
		}
	})
	assert.Zero(t, l.numNoted())
	for _, sh := range h.nat.all() {
		assert.Zero(t, sh.counters.Cut[counters.CutRemoved])
	}
}
