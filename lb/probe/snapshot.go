package probe

import (
	"fmt"
	"io"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// snapshotVersion is that of the layout of a monitor's snapshot.
const snapshotVersion = 1

// Snapshot writes what m has found of whom, and when it asks next, such that [RestoreMonitor] makes a
// monitor that goes on as m would. Errors are those of w. Cost: O(backends of all watches).
func (m *Monitor) Snapshot(w io.Writer) error {
	a := snapshot.NewWriter(w, "probe.Monitor", snapshotVersion)
	m.archive(a)
	return a.Close()
}

// RestoreMonitor returns the monitor that r has a snapshot of. c is the configuration that was in
// force, and whom the probes ask is prober. It reads what belongs to the snapshot and no more. Errors
// are those of c, of r, and what [flow.ErrDamaged] and its neighbours mark. Cost: O(backends of all watches).
func RestoreMonitor(c Config, prober Prober, r io.Reader) (*Monitor, error) {
	m, err := NewMonitor(c, prober)
	if err != nil {
		return nil, err
	}
	a := snapshot.NewReader(r, "probe.Monitor", snapshotVersion)
	m.archive(a)
	if err := a.Close(); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return m, nil
}

// archive writes or reads what the configuration, which is in place, does not say.
func (m *Monitor) archive(a *snapshot.Archive) {
	a.Section("pairs")
	a.Config(&m.config)
	n := len(m.pairs)
	if snapshot.Num(a, &n); n != len(m.pairs) {
		a.Fail(fmt.Errorf("%w: Watches say %d of probes and backends, and said %d", flow.ErrOtherConfig, len(m.pairs), n))
	}
	a.Bool(&m.begun)
	due := make([]flow.Time, len(m.pairs)) // the next attempt of each pair; below 0 there is none
	for i := range due {
		due[i] = -1
	}
	for _, n := range m.pending {
		due[n.pair] = n.at
	}
	for i := range m.pairs {
		if !a.OK() {
			return
		}
		m.pairs[i].archive(a)
		if snapshot.Num(a, &due[i]); a.Writing() || due[i] < 0 {
			continue
		}
		if a.Check(m.begun && m.attemptAt(i, due[i]), "an attempt of probe %q at %v", m.pairs[i].probe, due[i]) {
			m.pending.Push(next{due[i], i})
		}
	}
}

// attemptAt reports whether a pair has an attempt at a time.
func (m *Monitor) attemptAt(pair int, at flow.Time) bool {
	p := &m.pairs[pair]
	interval := flow.Time(m.config.Probes[p.at].interval())
	return at%interval == flow.Time(p.offset%uint64(interval/flow.Time(time.Millisecond)))*flow.Time(time.Millisecond)
}

func (p *pair) archive(a *snapshot.Archive) {
	who := p.offset // which is as good as the names
	if snapshot.Num(a, &who); who != p.offset {
		a.Fail(fmt.Errorf("%w: Watches: probe %q did not watch %q of %v", flow.ErrOtherConfig, p.probe, p.backend.Name, p.backend.Addr))
	}
	a.Bool(&p.healthy)
	a.Bool(&p.proven)
	snapshot.Nums(a, &p.streak, &p.minute.Attempts, &p.minute.Successes)
	snapshot.Nums(a, &p.attempts, &p.successes)
	snapshot.Num(a, &p.minute.At)
	a.Check(p.streak >= 0 && p.successes <= p.attempts && p.minute.Successes >= 0 && p.minute.Successes <= p.minute.Attempts &&
		uint64(p.minute.Attempts) <= p.attempts && p.minute.At >= 0 && p.minute.At%flow.Time(time.Minute) == 0,
		"probe %q has found of %q what it cannot have found", p.probe, p.backend.Name)
}
