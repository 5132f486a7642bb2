package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// figure is what one peer did with one number of flows.
type figure struct {
	newFlow, established measured
	perFlow              measured // bytes
}

// measured is the median of several measurements, in nanoseconds a packet or bytes a flow,
// and that of their ratios to ours, each taken right before. 0 = not known.
type measured struct{ value, ratio float64 }

// results are all figures of a run.
type results struct {
	peers   []peer
	counts  []int
	figures map[string]map[int]figure // by name and count; none where the peer cannot
}

// parts is how often a figure is measured: the median counts.
const parts = 5

func measureAll(peers []peer, counts []int, each time.Duration) (*results, error) {
	r := &results{peers: peers, counts: counts, figures: map[string]map[int]figure{}}
	for _, p := range peers {
		r.figures[p.name] = map[int]figure{}
	}
	for _, flows := range counts {
		w, err := newWorkload(flows)
		if err != nil {
			return nil, err
		}
		for _, p := range peers {
			if flows > p.most {
				continue
			}
			f, err := measure(p, peers[0], w, each)
			if err != nil {
				return nil, fmt.Errorf("%s, %d flows: %w", p.name, flows, err)
			}
			r.figures[p.name][flows] = f
			fmt.Fprintf(os.Stderr, "%-33s %9d flows: new %9.1f ns, established %9.1f ns, %6.0f B/flow\n",
				p.name, flows, f.newFlow.value, f.established.value, f.perFlow.value)
		}
	}
	return r, nil
}

// measure checks a peer and takes its figures, in turns with ours, so that both see the
// same machine.
func measure(p, ours peer, w *workload, each time.Duration) (f figure, err error) {
	t, err := p.open(w.flows)
	if err != nil {
		return f, err
	}
	err = check(p, t, w)
	t.close()
	if err != nil {
		return f, err
	}
	var reference, theirs opened
	defer func() { reference.close(); theirs.close() }()
	var opening, sending pairs
	// Opening is repeated while time is left.
	for began := time.Now(); len(opening.values) == 0 || len(opening.values) < parts && time.Since(began) < each; {
		if err = reference.open(ours, w); err == nil {
			err = theirs.open(p, w)
		}
		if err != nil {
			return f, err
		}
		opening.add(theirs.perPacket, reference.perPacket)
	}
	f.newFlow = opening.median()
	if !p.kernel {
		f.perFlow = measured{theirs.perFlow, theirs.perFlow / reference.perFlow}
	}
	for range parts {
		our, err := established(reference.translator, w, each/parts/4)
		if err != nil {
			return f, err
		}
		their, err := established(theirs.translator, w, each/parts)
		if err != nil {
			return f, err
		}
		sending.add(their, our)
	}
	f.established = sending.median()
	return f, nil
}

// opened is a translator with all flows open, and what opening them took.
type opened struct {
	translator
	perPacket float64 // ns
	perFlow   float64 // bytes
}

// open replaces the translator by a new one, and opens all flows.
func (o *opened) open(p peer, w *workload) error {
	o.close()
	before := heap()
	t, err := p.open(w.flows)
	if err != nil {
		return err
	}
	o.translator = t
	took, err := openAll(t, w)
	o.perPacket = float64(took) / float64(w.flows)
	used := t.bytes()
	if used == 0 {
		used = max(heap()-before, 0)
	}
	o.perFlow = float64(used) / float64(w.flows)
	return err
}

func (o *opened) close() {
	if o.translator != nil {
		o.translator.close()
		o.translator = nil
	}
}

// pairs are measurements and their ratios to ours.
type pairs struct{ values, ratios []float64 }

func (p *pairs) add(theirs, ours float64) {
	p.values, p.ratios = append(p.values, theirs), append(p.ratios, theirs/ours)
}

func (p *pairs) median() measured { return measured{median(p.values), median(p.ratios)} }

// heap is what Go's heap holds after a collection, in bytes.
func heap() int {
	runtime.GC()
	runtime.GC() // what pools held is free after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func buffers() [][]byte {
	all, pkts := make([]byte, batch*size), make([][]byte, batch)
	for i := range pkts {
		pkts[i] = all[i*size : (i+1)*size : (i+1)*size]
	}
	return pkts
}

// openAll sends the first packet of every flow, in order, and returns how long it took.
func openAll(t translator, w *workload) (time.Duration, error) {
	pkts := buffers()
	start := time.Now()
	for first := 0; first < w.flows; first += batch {
		n := min(batch, w.flows-first)
		for i := range n {
			w.packet(pkts[i], first+i)
		}
		if err := t.send(pkts[:n]); err != nil {
			return 0, fmt.Errorf("new flow %d: %w", first, err)
		}
	}
	err := t.finish()
	return time.Since(start), err
}

// established sends packets of random flows for a while, and returns nanoseconds a packet.
func established(t translator, w *workload, while time.Duration) (float64, error) {
	pkts := buffers()
	sent, next := 0, 0
	start := time.Now()
	for time.Since(start) < while {
		for range 8 {
			for i := range pkts {
				w.packet(pkts[i], int(w.order[next+i]))
			}
			if next += batch; next == len(w.order) {
				next = 0
			}
			if err := t.send(pkts); err != nil {
				return 0, err
			}
			sent += batch
		}
	}
	if err := t.finish(); err != nil {
		return 0, err
	}
	return float64(time.Since(start)) / float64(sent), nil
}
