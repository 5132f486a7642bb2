// The report for programs: one JSON object, or a line for each setting. The names of their fields
// stay.

package planner

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// document is what -json prints. Times are seconds since the beginning of the simulation.
type document struct {
	Settings struct {
		Cluster         []string       `json:"cluster"`  // files; empty for the built-in one
		Workload        string         `json:"workload"` // likewise
		Trace           string         `json:"trace"`    // or empty
		UntilSeconds    float64        `json:"untilSeconds"`
		Sweep           string         `json:"sweep"`
		Scale           map[string]int `json:"scale"` // nodes by pool
		Recommend       bool           `json:"recommend"`
		HeadroomPercent int            `json:"headroomPercent"`
		AcceptCuts      bool           `json:"acceptCuts"`
		Seed            uint64         `json:"seed"`
	} `json:"settings"`
	Cluster struct {
		Nodes        int      `json:"nodes"`
		Pods         int      `json:"pods"` // that may send
		OutboundType string   `json:"outboundType"`
		IPs          int      `json:"ips"`          // outbound, of all families
		PortsPerNode int      `json:"portsPerNode"` // of TCP and UDP each; 0 where ports are shared
		IdleSeconds  float64  `json:"idleSeconds"`
		NotModelled  []string `json:"notModelled"` // what the files say and the cluster is without
	} `json:"cluster"`
	Skipped        []string                `json:"skipped"`  // what of the trace is left out
	Complete       bool                    `json:"complete"` // false if the run was interrupted
	AsItIs         resultDocument          `json:"asItIs"`
	Sweep          []rowDocument           `json:"sweep"` // in the order of the combinations
	Recommendation *recommendationDocument `json:"recommendation"`
	NoSetting      string                  `json:"noSetting"` // why there is no recommendation, if none does
	Findings       []finding               `json:"findings"`
}

// rowDocument is a setting of the sweep: a result or an error.
type rowDocument struct {
	Setting string          `json:"setting"`
	Error   string          `json:"error"`  // why there is no result
	Result  *resultDocument `json:"result"` // without traffic, refusals, nodes and frontends
}

// recommendationDocument is a setting that refuses nothing, and the proof.
type recommendationDocument struct {
	IPs          int             `json:"ips"`
	PortsPerNode int             `json:"portsPerNode"` // with headroom
	IdleSeconds  float64         `json:"idleSeconds"`
	LeastPorts   int             `json:"leastPorts"` // that refuse nothing, without headroom
	Command      string          `json:"command"`    // that sets it
	Result       resultDocument  `json:"result"`     // of it
	Refusing     *resultDocument `json:"refusing"`   // of 8 ports less than leastPorts, until it refuses; null if those are 8
}

// resultDocument is a simulation.
type resultDocument struct {
	Total           countsDocument    `json:"total"`
	PeakShare       float64           `json:"peakShare"` // of the ports of the fullest node, 0..1
	Resets          uint64            `json:"resets"`    // RSTs that pods got
	Peak            usesDocument      `json:"peak"`      // who held the ports when most were in use
	PeakSeconds     float64           `json:"peakSeconds"`
	Outbound        uint64            `json:"outbound"` // packets
	Inbound         uint64            `json:"inbound"`
	OutboundDropped uint64            `json:"outboundDropped"`
	InboundDropped  uint64            `json:"inboundDropped"`
	Traffic         []countsDocument  `json:"traffic,omitempty"`
	Refusals        []refusalDocument `json:"refusals,omitempty"`
	Nodes           []fillDocument    `json:"nodes,omitempty"`
	Frontends       []fillDocument    `json:"frontends,omitempty"`
}

// countsDocument is whatif.Counts.
type countsDocument struct {
	Name                string  `json:"name"`
	Arrivals            uint64  `json:"arrivals"`
	Cached              uint64  `json:"cached"`
	Waited              uint64  `json:"waited"`
	Conversations       uint64  `json:"conversations"`
	Retries             uint64  `json:"retries"`
	Established         uint64  `json:"established"`
	Exchanges           uint64  `json:"exchanges"`
	Completed           uint64  `json:"completed"`
	Abandoned           uint64  `json:"abandoned"`
	RefusedPackets      uint64  `json:"refusedPackets"`
	Refused             uint64  `json:"refused"`
	RefusedShare        float64 `json:"refusedShare"`
	FirstRefusedSeconds float64 `json:"firstRefusedSeconds"` // 0 if nothing was refused
	Failed              uint64  `json:"failed"`
	Cut                 uint64  `json:"cut"`
	Broken              uint64  `json:"broken"`
	NoPort              uint64  `json:"noPort"`
}

// usesDocument is whatif.Uses.
type usesDocument struct {
	Ports      int `json:"ports"`
	Busy       int `json:"busy"`
	Idle       int `json:"idle"`
	UDP        int `json:"udp"`
	UDPWaiting int `json:"udpWaiting"`
	Abandoned  int `json:"abandoned"`
	HeldFIN    int `json:"heldFIN"`
	HeldRST    int `json:"heldRST"`
	HeldUDP    int `json:"heldUDP"`
}

// refusalDocument is whatif.Refusal.
type refusalDocument struct {
	Reason       string  `json:"reason"`
	Packets      uint64  `json:"packets"`
	FirstSeconds float64 `json:"firstSeconds"`
}

// fillDocument is whatif.Fill.
type fillDocument struct {
	Name           string     `json:"name,omitempty"`
	IP             netip.Addr `json:"ip,omitzero"`
	IPv6           bool       `json:"ipv6"`
	Protocol       string     `json:"protocol"`
	AllocatedPorts int        `json:"allocatedPorts"`
	PeakPorts      int        `json:"peakPorts"`
	P99Ports       int        `json:"p99Ports"`
}

func countsOf(c *whatif.Counts) countsDocument {
	return countsDocument{
		c.Name, c.Arrivals, c.Cached, c.Waited, c.Conversations, c.Retries, c.Established, c.Exchanges, c.Completed, c.Abandoned,
		c.RefusedPackets, c.Refused, c.RefusedShare(), c.FirstRefused.Seconds(), c.Failed, c.Cut, c.Broken, c.NoPort,
	}
}

// summaryOf returns what sweeps show of a result.
func summaryOf(r *whatif.Result) resultDocument {
	u := r.Peak
	return resultDocument{
		Total: countsOf(&r.Total), PeakShare: peak(r), Resets: r.Resets, PeakSeconds: r.PeakAt.Seconds(),
		Peak:     usesDocument{u.Ports, u.Busy, u.Idle, u.UDP, u.UDPWaiting, u.Abandoned, u.HeldFIN, u.HeldRST, u.HeldUDP},
		Outbound: r.Outbound, Inbound: r.Inbound, OutboundDropped: r.OutboundDropped, InboundDropped: r.InboundDropped,
	}
}

// resultOf returns all of a result.
func resultOf(r *whatif.Result) resultDocument {
	d := summaryOf(r)
	for i := range r.Traffic {
		d.Traffic = append(d.Traffic, countsOf(&r.Traffic[i]))
	}
	for _, x := range r.Refusals {
		d.Refusals = append(d.Refusals, refusalDocument{x.Reason.String(), x.Packets, x.First.Seconds()})
	}
	d.Nodes, d.Frontends = fillsOf(r.Nodes), fillsOf(r.Frontends)
	return d
}

func fillsOf(fills []whatif.Fill) (all []fillDocument) {
	for _, f := range fills {
		all = append(all, fillDocument{f.Name, f.Frontend, f.Is6, f.Protocol.String(), f.Allocated, f.Peak, f.P99})
	}
	return all
}

// writeJSON prints the report as JSON.
func (a *answer) writeJSON(w io.Writer) error {
	var d document
	o := &a.options
	s := &d.Settings
	s.Cluster, s.Workload, s.Trace = append([]string{}, o.clusters...), o.workload, o.trace
	s.UntilSeconds, s.Sweep, s.Recommend, s.HeadroomPercent, s.AcceptCuts, s.Seed = o.until.Seconds(), o.sweep.text, o.recommend, o.headroom, o.cuts, o.seed
	s.Scale = make(map[string]int)
	for _, p := range o.scale {
		s.Scale[p.name] = p.nodes
	}
	c := &d.Cluster
	c.Nodes, c.Pods, c.OutboundType, c.IPs, c.PortsPerNode = a.nodes, a.hosts, a.config.OutboundType.String(), a.ips(), a.ports()
	c.IdleSeconds, c.NotModelled = idleTimeout(&a.config).Seconds(), append([]string{}, a.omitted...)
	d.Skipped, d.Complete, d.AsItIs = append([]string{}, a.skipped...), !a.interrupted, resultOf(a.now)
	d.Sweep = []rowDocument{}
	for _, r := range a.rows {
		row := rowDocument{Setting: r.Setting}
		if r.Err != nil {
			row.Error = reason(r.Err)
		} else {
			short := summaryOf(r.Result)
			row.Result = &short
		}
		d.Sweep = append(d.Sweep, row)
	}
	if b := a.best; b != nil {
		d.Recommendation = &recommendationDocument{IPs: b.IPs, PortsPerNode: b.Ports, IdleSeconds: b.IdleTimeout.Seconds(), LeastPorts: b.Least, Command: a.azure(), Result: resultOf(b.Result)}
		if b.Refusing != nil {
			short := summaryOf(b.Refusing)
			d.Recommendation.Refusing = &short
		}
	}
	d.NoSetting, d.Findings = a.none, append([]finding{}, a.findings()...)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

// writeCSV prints a line for each setting, first the one as it is, and last the recommended one.
func (a *answer) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{{
		"setting", "conversations", "refused", "refusedShare", "firstRefusedSeconds", "peakShare", "failed", "cut", "broken", "resets",
		"peakPorts", "busy", "idle", "udp", "udpWaiting", "abandoned", "heldFIN", "heldRST", "heldUDP", "error",
	}}
	add := func(name string, r *whatif.Result, err error) {
		row := make([]string, len(rows[0]))
		row[0] = name
		if err != nil {
			row[len(row)-1] = reason(err)
			rows = append(rows, row)
			return
		}
		number := func(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
		t, u := &r.Total, r.Peak
		first := ""
		if t.Refused > 0 {
			first = number(t.FirstRefused.Seconds())
		}
		i := 1
		for _, text := range []string{strconv.FormatUint(t.Conversations, 10), strconv.FormatUint(t.Refused, 10), number(t.RefusedShare()), first, number(peak(r))} {
			row[i] = text
			i++
		}
		for _, n := range []uint64{t.Failed, t.Cut, t.Broken, r.Resets} {
			row[i] = strconv.FormatUint(n, 10)
			i++
		}
		for _, n := range []int{u.Ports, u.Busy, u.Idle, u.UDP, u.UDPWaiting, u.Abandoned, u.HeldFIN, u.HeldRST, u.HeldUDP} {
			row[i] = strconv.Itoa(n)
			i++
		}
		rows = append(rows, row)
	}
	add("as it is", a.now, nil)
	for _, r := range a.rows {
		add(r.Setting, r.Result, r.Err)
	}
	if b := a.best; b != nil {
		add("recommended "+settingText(b.IPs, b.Ports, b.IdleTimeout), b.Result, nil)
	}
	return c.WriteAll(rows)
}

// settingText writes a setting as a sweep does.
func settingText(ips, ports int, idle time.Duration) string {
	all := whatif.Grid(whatif.OutboundIPs(ips), whatif.OutboundPorts(ports), whatif.IdleTimeouts(idle))
	return all[0].Name
}
