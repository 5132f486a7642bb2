package life

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/upgrade"
)

// step does something at random: nearly always traffic.
func (w *world) step() {
	switch n := w.next(400); {
	case n < 3:
		w.scale()
	case n < 4:
		w.setOutbound()
	case n < 5:
		w.startUpgrade()
	case n < 11:
		w.changeServices()
	case n < 17:
		w.changePods()
	case n < 40:
		w.pass(time.Duration(w.next(2000)) * time.Millisecond)
	case n < 46:
		w.pass(time.Duration(w.next(120)) * time.Second)
	case n < 47:
		w.pass(time.Duration(w.next(60)) * time.Minute)
	case n == 47 && w.next(8) == 0:
		w.pass(time.Duration(w.next(6*24)) * time.Hour)
	case n < 52:
		w.advance(w.now)
		w.check()
	case n < 54:
		w.burst()
	case n < 200:
		w.begin()
	default:
		w.goOn()
	}
}

// fork lets a copy of the cluster go on in its place. The original ends.
func (w *world) fork() {
	w.t.Helper()
	copied, err := w.c.Fork(overlay.Ties{})
	require.NoError(w.t, err)
	w.t.Cleanup(copied.Close)
	require.Empty(w.t, likeness.Compare(w.c, copied, forkShares))
	before := seen(w.c)
	require.Equal(w.t, before, seen(copied))
	w.c.Close()
	require.Equal(w.t, before, seen(copied))
	if w.c = copied; w.upgrade != nil {
		w.upgrade = w.upgrade.Fork(copied)
		w.counts["forks during upgrades"]++
	}
	w.counts["forks"]++
}

// seen is what can be seen of a cluster.
func seen(c *overlay.Cluster) (all []string) {
	at, ok := c.NextDeadline()
	stats := c.Stats()
	stats.Bytes = 0 // one that is restored takes as much memory as it needs
	for _, x := range []any{stats, c.Services(), slices.Collect(c.Pods()), c.Nodes(), c.StaticGateways(), c.Metrics(), at, ok} {
		all = append(all, fmt.Sprintf("%+v", x))
	}
	for s := range c.Sessions() {
		all = append(all, fmt.Sprintf("%+v", s))
	}
	return all
}

// restore lets what is restored of a snapshot of the cluster go on in its place. The original ends.
func (w *world) restore() {
	w.t.Helper()
	var b, again bytes.Buffer
	require.NoError(w.t, w.c.Snapshot(&b))
	if w.upgrade != nil {
		require.NoError(w.t, w.upgrade.Snapshot(&b))
	}
	stream := bytes.NewReader(b.Bytes())
	c, err := overlay.Restore(w.c.Config(), stream)
	require.NoError(w.t, err)
	w.t.Cleanup(c.Close)
	require.Empty(w.t, likeness.Compare(w.c, c, restoreDiffers))
	require.Equal(w.t, seen(w.c), seen(c))
	require.NoError(w.t, c.Snapshot(&again))
	w.c.Close()
	if w.c = c; w.upgrade != nil {
		w.upgrade, err = upgrade.Restore(c, stream)
		require.NoError(w.t, err)
		require.NoError(w.t, w.upgrade.Snapshot(&again))
		w.counts["restored during upgrades"]++
	}
	require.Zero(w.t, stream.Len(), "all is read")
	require.True(w.t, bytes.Equal(b.Bytes(), again.Bytes()), "another snapshot has the same bytes")
	w.counts["restored"]++
}

// restoreDiffers is what a cluster that is restored does not have as the original has it, besides what a
// copy shares.
var restoreDiffers = func() map[string]string {
	all := maps.Clone(forkShares)
	maps.Copy(all, map[string]string{
		"endpoint.socket": "of a slot that is free it is what it was last",
		"endpoint.port":   "likewise",
		"endpoint.host":   "likewise",
		"endpoint.serial": "likewise",
		"endpoint.node":   "likewise",
		"chunk.nodes":     "likewise",
		"timed.next":      "counted round and round",
		"shard.sessions":  "see flow",
		"Proxy.table":     "likewise",
		"Proxy.hasher":    "likewise",
	})
	return all
}()

// forkShares is what a copy of a cluster shares with the original, because it never changes, or has of its
// own, because it ties it to its surroundings. The tests of packages snat and lb compare the translators.
var forkShares = map[string]string{
	"Cluster.egress":        "see lb",
	"Cluster.nodes":         "see snat",
	"exit.nat":              "see snat",
	"exit.tell":             "the cluster's own",
	"Proxy.admit":           "the cluster's own",
	"Table.shards":          "see flow",
	"Shard.mem":             "see flow",
	"Shard.keys":            "the proxy's own",
	"Table.keys":            "likewise",
	"Index.mem":             "see flow",
	"directory.m":           "see flow",
	"Rules.Config":          "asks the cluster's own",
	"Rules.groups":          "immutable",
	"Rules.byName":          "immutable",
	"Rules.byAddr":          "immutable",
	"Rules.pods4":           "immutable",
	"Rules.pods6":           "immutable",
	"Set.place":             "immutable",
	"Set.pods":              "immutable",
	"gateway.Gateway":       "immutable",
	"port.service":          "immutable",
	"port.sets":             "immutable",
	"entry.service":         "immutable",
	"entry.endpoints":       "immutable",
	"entry.local":           "immutable",
	"registry.nodes":        "immutable",
	"registry.nodes4":       "immutable",
	"registry.closed":       "immutable",
	"tables.nodes":          "immutable",
	"tables.nodes4":         "immutable",
	"tables.closed":         "immutable",
	"services.probes":       "immutable",
	"serviceEntry.Service":  "immutable",
	"serviceEntry.settings": "immutable",
	"serviceEntry.addrs":    "immutable",
	"state.given":           "immutable, but for hooks",
	"state.config":          "immutable, but for hooks",
	"state.egress":          "immutable, but for hooks",
	"state.Fleet":           "immutable",
	"state.extra":           "immutable",
	"state.byIndex":         "immutable",
	"state.byName":          "immutable",
	"state.byAddr":          "immutable",
	"state.places":          "immutable",
	"state.internal":        "immutable",
	"state.public":          "immutable",
	"state.services":        "immutable",
	"state.local":           "immutable",
}

// check compares what is remembered, and what ports are used.
func (w *world) check() {
	var got, want []string
	note := func(to *[]string, where any, proto uint8, sockets ...netip.AddrPort) {
		*to = append(*to, fmt.Sprint(where, " ", proto, " ", sockets))
	}
	for s := range w.c.Sessions() {
		if s.Proto == 58 {
			s.Proto = protoICMP
		}
		switch {
		case s.Class == flow.ClassTCPResetSent || s.Class == flow.ClassUDPHeld: // only what answers stragglers, or keeps a port
		case s.Kind == flow.KindForwarded && s.Proto == protoUDP: // moves from node to node as they are healthy or not
		case s.Kind == flow.KindForwarded:
			note(&got, s.Kind, s.Proto, s.Outside, s.Remote)
		default:
			note(&got, s.Kind, s.Proto, s.Inside, s.Outside, s.Remote)
		}
	}
	for s := range w.c.ServiceSessions() {
		note(&got, s.Node, s.Proto, s.Client, s.Frontend, s.Seen, s.Endpoint)
	}
	type portKey struct {
		at    netip.AddrPort
		proto uint8
	}
	ports := map[portKey]bool{}
	for _, s := range w.m.stages {
		switch {
		case s.proto == protoICMP && s.kind == byNode && !s.clientIsInside: // the identifier is the inside's
			inside := netip.AddrPortFrom(s.dst.Addr(), s.src.Port())
			note(&want, flow.KindTracked, s.proto, inside, inside, netip.AddrPortFrom(s.src.Addr(), 0))
		case s.proto == protoICMP && s.kind == byGateway:
			note(&want, flow.KindQuery, s.proto, s.src, s.asSrc, s.dst)
		case s.kind == byNode && s.src != s.asSrc:
			note(&want, flow.KindNode, s.proto, s.src, s.asSrc, s.dst)
		case s.kind == byNode && s.clientIsInside:
			note(&want, flow.KindTracked, s.proto, s.src, s.src, s.dst)
		case s.kind == byNode:
			note(&want, flow.KindTracked, s.proto, s.dst, s.dst, s.src)
		case s.kind == byPublic:
			note(&want, flow.KindPublic, s.proto, s.src, s.asSrc, s.dst)
		case s.kind == byInbound && s.proto == protoUDP:
		case s.kind == byInbound:
			note(&want, flow.KindForwarded, s.proto, s.dst, s.src)
		case s.kind == byProxy:
			note(&want, w.m.nodes[s.node].Index, s.proto, s.src, s.dst, s.asSrc, s.asDst)
		default:
			note(&want, flow.KindTranslated, s.proto, s.src, s.asSrc, s.dst)
			ports[portKey{s.asSrc, s.proto}] = true
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(want, got) {
		for _, s := range want {
			if !slices.Contains(got, s) {
				w.t.Errorf("at %v only the model has %v", w.now, s)
			}
		}
		for _, s := range got {
			if !slices.Contains(want, s) {
				w.t.Errorf("at %v the model has not %v", w.now, s)
			}
		}
		w.t.FailNow()
	}
	for _, f := range w.c.Frontends() {
		n := 0
		for k := range ports {
			if k.at.Addr() == f.Frontend && k.proto == protocolOf(f.Protocol) {
				n++
			}
		}
		if w.hasGateway() {
			continue // there ports are used longer than flows
		}
		require.Equal(w.t, n, f.Used, "ports of %v %v", f.Frontend, f.Protocol)
	}
	require.Equal(w.t, 20_000-2*len(w.m.hostPorts), w.c.HostPortsFree())
	require.Len(w.t, w.c.Services(), len(w.m.services))
}

// end lets the cluster come to rest: nothing is left of all that.
func (w *world) end() {
	w.check()
	for _, name := range names(w.m.services) {
		require.NoError(w.t, w.c.RemoveService(w.now, name))
		delete(w.m.services, name)
	}
	for p := range w.c.Pods() {
		require.NoError(w.t, w.c.RemovePod(p.Name))
	}
	w.m.stages, w.m.talks, w.m.hostPorts = nil, nil, map[string][]overlay.HostPort{}
	w.c.Advance(w.now+flow.At(7*24*time.Hour), nil)
	w.c.Advance(w.now+flow.At(8*24*time.Hour), nil)
	w.check()
	s := w.c.Stats()
	require.Zero(w.t, s.SessionsActive)
	require.Zero(w.t, s.Ports.Total())
	require.Equal(w.t, s.SessionsCreated, s.SessionsEnded)
	for i, inst := range w.c.Instances() {
		for _, p := range inst.Pools {
			require.Zero(w.t, p.Used, "node %d", i)
		}
	}
	w.c.Close()
}

func TestLife(t *testing.T) {
	pkttest.OneGoroutine(t)
	counts := map[string]int{}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t, seed, cni.Plugin(seed%3), rng.IntN)
			for i := range pkttest.Operations(3000, 5_000, 150_000) {
				if w.step(); i%250 == 249 {
					w.fork()
					w.restore()
				}
			}
			w.end()
			counts["endpoints kept"] += w.m.kept
			for what, n := range w.counts {
				counts[what] += n
			}
		})
	}
	for _, what := range names(counts) {
		t.Log(counts[what], what)
	}
	require.NotZero(t, counts["refused for want of a port"])
	require.NotZero(t, counts["resets"])
	require.NotZero(t, counts["forks"])
	require.NotZero(t, counts["forks during upgrades"])
	require.NotZero(t, counts["endpoints kept"])
	require.NotZero(t, counts["echoes by stages [public]"])
	require.NotZero(t, counts["datagrams in pieces"])
	require.NotZero(t, counts["rejects"])
	require.NotZero(t, counts["internal Services of ipv4,ipv6"])
	require.NotZero(t, counts["begun at a node's public address by stages [proxy]"])
	for _, by := range []string{"inbound proxy", "node node proxy", "node proxy", "outbound", "gateway", "public"} {
		require.NotZero(t, counts["begun by stages ["+by+"]"], by)
	}
}

// FuzzLife plays a script: two bytes a decision.
func FuzzLife(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		script := make([]byte, 4000)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		next := func(n int) int {
			if len(script) < 2 {
				script = nil
				return 0
			}
			d := int(script[0])<<8 | int(script[1])
			script = script[2:]
			return d % n
		}
		w := newWorld(t, 1, cni.Plugin(next(3)), next)
		for len(script) > 0 {
			w.step()
		}
		w.end()
	})
}
