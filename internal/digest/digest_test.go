package digest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/digest"
)

// Whatever a driver can see makes another number, and what means nothing does not.
func TestEverythingCounts(t *testing.T) {
	forward := flow.Verdict{Action: flow.Forward, To: flow.Outside}
	drop := flow.Verdict{Reason: flow.ReasonPorts}
	seen := map[uint64]string{}
	for name, run := range map[string]func(*digest.Digest){
		"nothing":       func(d *digest.Digest) {},
		"a packet":      func(d *digest.Digest) { d.Packet(1, flow.Inside, forward, []byte("ab")) },
		"later":         func(d *digest.Digest) { d.Packet(2, flow.Inside, forward, []byte("ab")) },
		"other side":    func(d *digest.Digest) { d.Packet(1, flow.Outside, forward, []byte("ab")) },
		"other bytes":   func(d *digest.Digest) { d.Packet(1, flow.Inside, forward, []byte("ac")) },
		"other verdict": func(d *digest.Digest) { d.Packet(1, flow.Inside, flow.Verdict{Action: flow.Bypass}, []byte("ab")) },
		"new": func(d *digest.Digest) {
			d.Packet(1, flow.Inside, flow.Verdict{Action: flow.Forward, To: flow.Outside, New: true}, []byte("ab"))
		},
		"other instance": func(d *digest.Digest) {
			d.Packet(1, flow.Inside, flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: 1}, []byte("ab"))
		},
		"dropped":          func(d *digest.Digest) { d.Packet(1, flow.Inside, drop, []byte("ab")) },
		"other reason":     func(d *digest.Digest) { d.Packet(1, flow.Inside, flow.Verdict{Reason: flow.ReasonSpoof}, []byte("ab")) },
		"emitted":          func(d *digest.Digest) { d.Emission(flow.Emission{At: 1, Packet: []byte("ab")}) },
		"emitted outside":  func(d *digest.Digest) { d.Emission(flow.Emission{At: 1, To: flow.Outside, Packet: []byte("ab")}) },
		"noted":            func(d *digest.Digest) { d.Note("%s", "ab") },
		"noted apart":      func(d *digest.Digest) { d.Note("a"); d.Note("b") },
		"noted apart, but": func(d *digest.Digest) { d.Note("b"); d.Note("a") },
	} {
		d := digest.New()
		run(d)
		assert.Empty(t, seen[d.Sum64()], "%s is like", name)
		seen[d.Sum64()] = name
		assert.Len(t, d.String(), 16)
	}
	one, two := digest.New(), digest.New()
	one.Packet(1, flow.Inside, drop, []byte("ab"))
	two.Packet(1, flow.Inside, drop, []byte("cd"))
	assert.Equal(t, one.Sum64(), two.Sum64(), "the bytes of what was dropped are unspecified")
}

// stub forwards everything and emits once.
type stub struct{ flow.Translator }

func (stub) Outbound(flow.Time, []byte) flow.Verdict { return flow.Verdict{Action: flow.Forward} }
func (stub) Inbound(flow.Time, []byte) flow.Verdict  { return flow.Verdict{Action: flow.Bypass} }
func (stub) OutboundBatch(_ flow.Time, pkts [][]byte, vs []flow.Verdict) {
	for i := range pkts {
		vs[i] = flow.Verdict{Action: flow.Forward}
	}
}
func (stub) InboundBatch(_ flow.Time, pkts [][]byte, vs []flow.Verdict) {
	for i := range pkts {
		vs[i] = flow.Verdict{Action: flow.Bypass}
	}
}
func (stub) Advance(_ flow.Time, emit flow.Sink) { emit(flow.Emission{Packet: []byte("x")}) }
func (stub) AdvanceStep(_ flow.Time, emit flow.Sink) bool {
	emit(flow.Emission{Packet: []byte("x")})
	return true
}

// How a driver calls makes no difference.
func TestBatchesAndStepsAreAlike(t *testing.T) {
	pkts := [][]byte{[]byte("one"), []byte("two")}
	verdicts := make([]flow.Verdict, 2)
	single, batch := digest.Record(stub{}), digest.Record(stub{})
	for _, p := range pkts {
		single.Outbound(1, p)
	}
	for _, p := range pkts {
		single.Inbound(2, p)
	}
	single.Advance(3, nil)
	batch.OutboundBatch(1, pkts, verdicts)
	batch.InboundBatch(2, pkts, verdicts)
	told := 0
	assert.True(t, batch.AdvanceStep(3, func(flow.Emission) { told++ }))
	assert.Equal(t, single.Sum64(), batch.Sum64())
	assert.Equal(t, 1, told, "the driver's own sink is told as well")
}
