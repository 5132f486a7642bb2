package digest

import "github.com/seed-a61be3fe/natplane/flow"

// Recorder is a translator whose doing is folded into a digest. It changes nothing
// of what the translator does. A batch has the digest of its packets one by one, and a
// run in steps that of the same run without.
type Recorder struct {
	flow.Translator
	*Digest
}

// Record returns t with a digest of its own.
func Record(t flow.Translator) *Recorder { return &Recorder{t, New()} }

// Outbound does what the translator does.
func (r *Recorder) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	v := r.Translator.Outbound(now, pkt)
	r.Packet(now, flow.Inside, v, pkt)
	return v
}

// Inbound does what the translator does.
func (r *Recorder) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	v := r.Translator.Inbound(now, pkt)
	r.Packet(now, flow.Outside, v, pkt)
	return v
}

// OutboundBatch does what the translator does.
func (r *Recorder) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	r.Translator.OutboundBatch(now, pkts, verdicts)
	r.packets(now, flow.Inside, pkts, verdicts)
}

// InboundBatch does what the translator does.
func (r *Recorder) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	r.Translator.InboundBatch(now, pkts, verdicts)
	r.packets(now, flow.Outside, pkts, verdicts)
}

func (r *Recorder) packets(now flow.Time, from flow.Side, pkts [][]byte, verdicts []flow.Verdict) {
	for i, pkt := range pkts {
		r.Packet(now, from, verdicts[i], pkt)
	}
}

// Advance does what the translator does.
func (r *Recorder) Advance(now flow.Time, emit flow.Sink) {
	r.Translator.Advance(now, r.sink(emit))
}

// AdvanceStep does what the translator does.
func (r *Recorder) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	return r.Translator.AdvanceStep(now, r.sink(emit))
}

// sink returns emit, which may be nil, with the digest in front.
func (r *Recorder) sink(emit flow.Sink) flow.Sink {
	return func(e flow.Emission) {
		r.Emission(e)
		if emit != nil {
			emit(e)
		}
	}
}
