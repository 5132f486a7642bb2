// Package trace reads what a network has seen, as the conversations that hosts began: flow logs in
// CSV, NSG and virtual network flow logs of Azure, flows of Hubble, and packets of a capture.
//
// Terminology:
//   - Record: a line or tuple of a file, or a packet; several may be about one conversation.
//   - Flow: a conversation, from its first record to its last one or its end.
//   - Inside: the side of the hosts; only conversations that begin there are read.
//
// # Formats
//
//	CSV      a header and a line for each flow; columns in any order: start (seconds, a duration such as
//	         1m30s, or RFC 3339), src (address or name of a host), dst (address), port, and if wanted proto
//	         (tcp, udp), duration (likewise), bytes, end (fin, rst, open)
//	NSG      JSON of network security group flow logs, version 2
//	VNet     JSON of virtual network flow logs, version 4
//	Hubble   JSON of hubble observe -o jsonpb or of the exporter of Cilium, an event a line
//	packets  IP packets with times, from whatever file
//
// The sources are "Flow logging for network security groups"
// (learn.microsoft.com/azure/network-watcher/nsg-flow-logs-overview), "Virtual network flow logs"
// (.../vnet-flow-logs-overview) and flow.proto of Cilium
// (github.com/cilium/cilium/tree/main/api/v1/flow).
//
// Of logs of Azure outbound flows are read that were allowed. Their states are B (begin), C
// (continuing, every five minutes) and E (end); what has no B begins with its first tuple, what
// has no E is open. E does not say how a flow has ended; that it closed is our choice. Of Hubble,
// whose events are single packets, it is what a pod sends that is not to a pod, and what comes
// back; of packets what begins with an address of the inside. There a SYN begins a connection
// anew, and FIN or RST end it; UDP is over when nothing is seen for an hour, which is our choice.
// What is left out is counted in [Trace].Skipped. The times of a file lie within 366 days of its first
// one, which is our bound.
//
// All functions are pure and may be called concurrently.
package trace

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// End is how a flow has ended.
type End uint8

// The ends of flows.
const (
	Closed End = iota // with FINs, or of UDP at all
	Reset             // with a RST
	Open              // not, as far as the trace goes

	numEnds
)

var endNames = [...]string{Closed: "fin", Reset: "rst", Open: "open"}

var _ = [1]struct{}{}[len(endNames)-int(numEnds)]

// String returns the name of e as CSV has it: "fin", "rst" or "open".
func (e End) String() string { return enum.Name(e, endNames[:]) }

// Flow is a conversation that a host of the inside began.
type Flow struct {
	Start    time.Duration  // since Trace.Begin
	Host     string         // the name of who began it, "namespace/name" of a pod; "" if the trace does not tell
	Src      netip.Addr     // its address; the zero Addr if the trace does not tell
	Dst      netip.AddrPort // whom it is to
	UDP      bool           // its protocol; else TCP
	Duration time.Duration  // to the last record, or the end
	Bytes    uint64         // of both ways, with or without headers as the source has it; 0 if it does not tell
	End      End            // how it ended
}

// Trace is what a file or a capture has.
type Trace struct {
	Begin   time.Time      // of the first flow; the zero Time if the file has only times since some beginning
	Flows   []Flow         // in the order of their starts
	Skipped map[string]int // records that are no part of a flow, by reason
}

// MaxFlows is the most flows of a trace; our bound.
const MaxFlows = 20_000_000

// Read reads a file in whatever of the formats it is; name is for errors. The error has all
// problems, at most a hundred, each with file, line, field and value; there is no trace then.
// Cost: O(bytes).
func Read(name string, data []byte) (*Trace, error) {
	r := newReader(name)
	switch text := bytes.TrimLeft(data, " \t\r\n\ufeff"); {
	case len(text) == 0:
		r.problems.Add(name, problems.None, problems.ErrMissing, "there is nothing in the file")
	case text[0] != '{':
		r.csv(data)
	case strings.HasPrefix(strings.TrimLeft(string(text[1:min(len(text), 200)]), " \t\r\n"), `"records"`):
		r.azure(data)
	default:
		r.hubble(data)
	}
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	return r.finish(), nil
}

// reader is one reading of a file.
type reader struct {
	name     string
	problems problems.List
	trace    *Trace
	under    map[key]int  // way flows: index of those that are not over
	foreign  map[key]bool // of packets: conversations that have begun outside, as the inside names them
	first    time.Time    // of all flows; times are since then until finish
	spans    bool         // flows have begun at times since the beginning
}

func newReader(name string) *reader {
	return &reader{name: name, trace: &Trace{Skipped: make(map[string]int)}, under: make(map[key]int), foreign: make(map[key]bool)}
}

// key names a conversation that is under way.
type key struct {
	src, dst netip.AddrPort
	udp      bool
}

// bad notes a problem of a line.
func (r *reader) bad(line int, field, value string, kind error, rule string, args ...any) {
	r.problems.Add(fmt.Sprintf("%s:%d: %s", r.name, line, field), problems.Rawf("%q", value), kind, rule, args...)
}

// toMany is why a flow to a group, or to everybody, is skipped.
const toMany = "not to a single host"

// skip counts a record that is left out.
func (r *reader) skip(why string) { r.trace.Skipped[why]++ }

// since returns a time as it is kept until finish; false if it is too far from the first one that was read.
func (r *reader) since(t time.Time) (d time.Duration, ok bool) {
	if r.first.IsZero() {
		r.first = t
	}
	d = t.Sub(r.first)
	return d, -maxTime <= d && d <= maxTime
}

// far is the rule about times that since refuses.
const far = "must be within 366 days of the first one"

// add adds a flow; false if there are too many.
func (r *reader) add(line int, f Flow) bool {
	if len(r.trace.Flows) == MaxFlows {
		r.bad(line, "", "", problems.ErrTooMany, "at most %d flows", MaxFlows)
		return false
	}
	r.trace.Flows = append(r.trace.Flows, f)
	return true
}

// see extends the flow of a key to a time, or begins it; it returns it, and nil if there are too
// many.
func (r *reader) see(line int, k key, host string, at time.Duration) *Flow {
	i, ok := r.under[k]
	if !ok {
		if !r.add(line, Flow{Start: at, Host: host, Src: k.src.Addr(), Dst: k.dst, UDP: k.udp, End: Open}) {
			return nil
		}
		i = len(r.trace.Flows) - 1
		r.under[k] = i
	}
	f := &r.trace.Flows[i]
	if at < f.Start { // logs are not quite in order
		f.Duration += f.Start - at
		f.Start = at
	}
	f.Duration = max(f.Duration, at-f.Start)
	return f
}

// over ends a flow.
func (r *reader) over(k key, f *Flow, how End) {
	f.End = how
	delete(r.under, k)
}

// finish orders the flows and counts from the first one.
func (r *reader) finish() *Trace {
	t := r.trace
	slices.SortStableFunc(t.Flows, func(a, b Flow) int { return cmp.Compare(a.Start, b.Start) })
	if len(t.Flows) > 0 {
		first := t.Flows[0].Start
		for i := range t.Flows {
			t.Flows[i].Start -= first
		}
		if !r.first.IsZero() {
			t.Begin = r.first.Add(first).UTC()
		}
	}
	return t
}
