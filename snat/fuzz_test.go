package snat_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// randomScript returns n random decisions.
func randomScript(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// chosenBytes is how many bytes of a script a fuzz target lets the fuzzer choose; a seed
// decides the rest. What reaches something new is first made as short as possible, in
// up to as many attempts as the square of its length, and nothing else happens until
// then: it has to be short, or a minute goes by with a single one.
const chosenBytes = 16

// fuzzScripts runs scripts of chosen bytes and as many more as that.
func fuzzScripts(f *testing.F, more int, run func(t *testing.T, s *script)) {
	f.Helper()
	for seed := range uint64(8) {
		f.Add(randomScript(seed, chosenBytes), seed)
	}
	f.Fuzz(func(t *testing.T, chosen []byte, seed uint64) {
		if len(chosen) > chosenBytes {
			t.Skip("would take too long to shorten")
		}
		run(t, &script{append(slices.Clone(chosen), randomScript(seed, more)...)})
	})
}

// A NAT does what its model does, whatever the script, by packets and by
// batches, with any number of shards, and however seldom time is advanced.
func TestNATAgainstModel(t *testing.T) {
	t.Parallel()
	scripts, length := pkttest.Operations(30, 170, 2000), 3000
	seen := map[string]uint64{}
	for seed := range uint64(scripts) {
		s := &script{randomScript(seed, length)}
		var m *model
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { m = s.run(t) }) {
			return
		}
		seen["new flows"] += m.stats.SessionsCreated
		seen["refusals"] += m.stats.ConnectionsFailed
		seen["resets"] += m.stats.Resets
		seen["mappings apart"] += m.apart
		seen["half-open ones that gave way"] += m.stats.Evicted
		seen["out of window"] += m.stats.OutOfWindow
		seen["bad checksums"] += m.stats.BadChecksum
		seen["remembered"] += m.remembered[flow.Inside]
		seen["remembered from outside"] += m.remembered[flow.Outside]
		seen["answers by public addresses"] += m.entries
		seen["strays"] += m.strays
		seen["ended by their remotes"] += m.ended
		seen["bypassed"] += m.stats.Outbound.Bypassed
		seen["held SYNs told"] += m.stats.HeldSYNs.Expired
		seen["held SYNs matched"] += m.stats.HeldSYNs.Matched
		seen["held SYNs forgotten"] += m.stats.HeldSYNs.Forgotten
		seen["in bypassed"] += m.stats.Inbound.Bypassed
		seen["out 1:1"] += m.stats.Outbound.OneToOne
		seen["in 1:1"] += m.stats.Inbound.OneToOne
		for r := range flow.Reasons() {
			seen["out "+r.String()] += m.stats.Outbound.Drops[r]
			seen["in "+r.String()] += m.stats.Inbound.Drops[r]
		}
		for class, n := range m.stats.Expired {
			seen["expired "+flow.Class(class).String()] += n
		}
	}
	if pkttest.Short() {
		return
	}
	// The scripts are worth what they reach.
	for _, what := range []string{
		"new flows", "refusals", "resets", "out of window", "bad checksums", "bypassed", "in bypassed", "held SYNs told", "held SYNs matched", "held SYNs forgotten", "expired custom-0", "out 1:1", "in 1:1", "answers by public addresses", "strays", "ended by their remotes",
		"remembered", "remembered from outside", "out nsg_outbound", "in nsg_inbound",
		"out ports", "mappings apart", "half-open ones that gave way", "out no_outbound", "out no_flow", "out flow_reset", "out l4_csum", "out hairpin",
		"out martian_dst", "out link_local", "out route", "out spoof", "out spoof_frontend",
		"out hairpin_loop", "in filtered", "in l4_csum", "in mapping_conflict",
		"in no_flow", "in not_ours", "in flow_reset", "in spoof_frontend", "in martian_src", "out land", "in land",
		"expired tcp-opening", "expired tcp-established", "expired tcp-half-closed", "expired tcp-time-wait", "expired tcp-reset",
		"expired udp", "expired udp-replied",
	} {
		if seen[what] == 0 {
			t.Errorf("no script reached: %s", what)
		}
	}
}

// FuzzNAT looks for a script on which NAT and model disagree.
func FuzzNAT(f *testing.F) {
	fuzzScripts(f, 100, func(t *testing.T, s *script) { s.run(t) })
}
