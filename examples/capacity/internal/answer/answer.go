// Package answer is what a run of the command capacity has found, as data: what -json prints, and
// what the report, -csv and the page are made of, so that none of them knows more than another.
//
// Terminology, used exactly so in names and comments:
//   - As it is: the setting that the cluster has.
//   - Setting: a change of cluster and workload that was tried.
//   - Change: the setting that the run speaks for, if it speaks for one: the recommended one, or else
//     the best of those tried.
//   - Course: samples of a simulation over time.
//
// Names of fields in JSON stay; times in them are seconds since the beginning of the simulation. An
// Answer is filled by one goroutine, and then only read. This package refuses to know simulations
// beyond their results, terminals and pages.
package answer

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Answer is all that a run has found.
type Answer struct {
	Settings struct {
		Cluster         []string       `json:"cluster"`  // files; empty for the built-in one
		Workload        string         `json:"workload"` // likewise
		Trace           string         `json:"trace"`    // or empty
		TraceFlows      int            `json:"traceFlows"`
		UntilSeconds    float64        `json:"untilSeconds"`
		Sweep           string         `json:"sweep"`
		WarmUpSeconds   float64        `json:"warmUpSeconds"` // before the settings of the sweep are in force; 0: from the beginning
		Scale           map[string]int `json:"scale"`         // nodes by pool
		Recommend       bool           `json:"recommend"`
		HeadroomPercent int            `json:"headroomPercent"`
		AcceptCuts      bool           `json:"acceptCuts"`
		Upgrade         string         `json:"upgrade"`
		Story           string         `json:"story"`
		Seed            uint64         `json:"seed"` // of the workload
	} `json:"settings"`
	Cluster struct {
		Name         string   `json:"name"` // or empty
		Nodes        int      `json:"nodes"`
		Pools        int      `json:"pools"`
		Pods         int      `json:"pods"` // that may send
		OutboundType string   `json:"outboundType"`
		IPs          int      `json:"ips"`          // outbound, of all families
		PortsPerNode int      `json:"portsPerNode"` // of TCP and UDP each; 0 where ports are shared
		IdleSeconds  float64  `json:"idleSeconds"`
		HoldSeconds  float64  `json:"holdSeconds"` // that a port is kept from a destination after FIN
		NotModelled  []string `json:"notModelled"` // what the files say and the cluster is without
		Pending      []string `json:"pending"`     // pods that found no node and so send nothing, a sentence each
	} `json:"cluster"`
	Story          *Story          `json:"story"`    // null unless asked for
	Skipped        []string        `json:"skipped"`  // what of the trace is left out
	Complete       bool            `json:"complete"` // false if the run was interrupted
	Headline       Headline        `json:"headline"`
	AsItIs         Result          `json:"asItIs"`
	Sweep          []Row           `json:"sweep"` // in the order of the combinations
	Recommendation *Recommendation `json:"recommendation"`
	NoSetting      string          `json:"noSetting"` // why there is no recommendation, if none does
	Upgrade        *Upgrade        `json:"upgrade"`   // null unless asked for
	Findings       []Finding       `json:"findings"`
}

// Story is an advice of the field, which the run shows.
type Story struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Why    string `json:"why"`    // it helps, a sentence
	Advice string `json:"advice"` // what to do in Azure, a sentence
}

// Row is a setting of the sweep: a result or an error.
type Row struct {
	Setting string  `json:"setting"`
	Error   string  `json:"error"`  // why there is no result
	Result  *Result `json:"result"` // without traffic, refusals, nodes, frontends and course
}

// NotDone is the error of a row that an interrupt came before.
const NotDone = "not done"

// Recommendation is a setting that refuses nothing, and the proof.
type Recommendation struct {
	IPs          int      `json:"ips"`
	PortsPerNode int      `json:"portsPerNode"` // with headroom
	IdleSeconds  float64  `json:"idleSeconds"`
	LeastPorts   int      `json:"leastPorts"` // that refuse nothing, without headroom
	Setting      string   `json:"setting"`    // as a sweep writes it
	Command      string   `json:"command"`    // that sets it
	Mind         []string `json:"mind"`       // what else changes, a sentence each
	Needed       []string `json:"needed"`     // what of it refuses nothing and keeps the headroom, a sentence each
	Free         []string `json:"free"`       // what of it may be as it is as well, likewise
	Result       Result   `json:"result"`     // of it
	Refusing     *Result  `json:"refusing"`   // of 8 ports less than leastPorts, until it refuses; null if those are 8

	ShortestIdleSeconds float64 `json:"shortestIdleSeconds"` // from this idle timeout up to the recommended one all do
	TooLongIdleSeconds  float64 `json:"tooLongIdleSeconds"`  // the next longer one, which does not; 0 if there was none to try
}

// Result is a simulation.
type Result struct {
	Total           Counts     `json:"total"`
	PeakShare       float64    `json:"peakShare"` // of the ports of the fullest node, 0..1
	Resets          uint64     `json:"resets"`    // RSTs that pods got
	Peak            Uses       `json:"peak"`      // who held the ports when most were in use in a sample; see Uses.Ports
	PeakSeconds     float64    `json:"peakSeconds"`
	Outbound        uint64     `json:"outbound"` // packets
	Inbound         uint64     `json:"inbound"`
	OutboundDropped uint64     `json:"outboundDropped"`
	InboundDropped  uint64     `json:"inboundDropped"`
	Traffic         []Counts   `json:"traffic,omitempty"`
	Refusals        []Refusal  `json:"refusals,omitempty"`
	Nodes           []Fill     `json:"nodes,omitempty"`
	Frontends       []Fill     `json:"frontends,omitempty"`
	Groups          []Holding  `json:"groups,omitempty"`       // workloads of pods, those that held most ports at the peak first
	Hosts           []Holding  `json:"hosts,omitempty"`        // pods, likewise
	Destinations    []Holding  `json:"destinations,omitempty"` // likewise
	Foretold        []Foretold `json:"foretold,omitempty"`     // when ports were to run out, and did
	Stranded        []Stranded `json:"stranded,omitempty"`     // that a node which refused flows could not use, in the end
	Course          *Course    `json:"course,omitempty"`
}

// Counts is [whatif.Counts].
type Counts struct {
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

// Ended returns how many conversations an idle timeout has ended.
func (c *Counts) Ended() uint64 { return c.Cut + c.Broken }

// Uses is [whatif.Uses].
type Uses struct {
	Ports      int `json:"ports"` // of a peak at least: those of the sample, or the peak of a node or frontend if that is more
	Busy       int `json:"busy"`
	Idle       int `json:"idle"`
	UDP        int `json:"udp"`
	UDPWaiting int `json:"udpWaiting"`
	Abandoned  int `json:"abandoned"`
	HeldFIN    int `json:"heldFIN"`
	HeldRST    int `json:"heldRST"`
	HeldUDP    int `json:"heldUDP"`
}

// Refusal is [whatif.Refusal].
type Refusal struct {
	Reason       string  `json:"reason"`
	Sentence     string  `json:"sentence"` // that says the same
	Packets      uint64  `json:"packets"`
	FirstSeconds float64 `json:"firstSeconds"`
}

// Fill is [whatif.Fill].
type Fill struct {
	Name           string     `json:"name,omitempty"`
	IP             netip.Addr `json:"ip,omitzero"`
	IPv6           bool       `json:"ipv6"`
	Protocol       string     `json:"protocol"`
	AllocatedPorts int        `json:"allocatedPorts"`
	PeakPorts      int        `json:"peakPorts"`
	P99Ports       int        `json:"p99Ports"`
}

// Share returns the share of the ports that the peak is, 0..1.
func (f *Fill) Share() float64 {
	if f.AllocatedPorts == 0 {
		return 0
	}
	return min(1, float64(f.PeakPorts)/float64(f.AllocatedPorts)) // a node may have had more at the peak
}

// Label returns what people call whose ports they are.
func (f *Fill) Label() string {
	if f.Name != "" {
		return f.Name
	}
	return f.IP.String() // shared ports
}

// Holding is [whatif.Holding].
type Holding struct {
	Name        string `json:"name"`               // of a workload or pod, or an address and port
	Protocol    string `json:"protocol,omitempty"` // of a destination
	AtPeakPorts int    `json:"atPeakPorts"`
	Created     uint64 `json:"created"`  // flows that got a port
	Suffered    uint64 `json:"suffered"` // first packets of its own that were refused
	Blamed      uint64 `json:"blamed"`   // first packets that were refused because of the ports that it held
}

// Foretold is [whatif.Foretold].
type Foretold struct {
	Node             string  `json:"node"` // or empty, where nodes share ports
	Destination      string  `json:"destination"`
	Protocol         string  `json:"protocol"`
	Cause            string  `json:"cause"`            // of the growth
	SaidSeconds      float64 `json:"saidSeconds"`      // when it was first foretold; 0 if never
	ForetoldSeconds  float64 `json:"foretoldSeconds"`  // for when, then
	EarliestSeconds  float64 `json:"earliestSeconds"`  // the range that was foretold then
	LatestSeconds    float64 `json:"latestSeconds"`    // its end; 0 if it has none
	HalfSeconds      float64 `json:"halfSeconds"`      // what was foretold half of the way later; 0 if nothing
	ExhaustedSeconds float64 `json:"exhaustedSeconds"` // when ports had run out; 0 if they have not
}

// Sentence says what was foretold and what has happened; "" if nothing was foretold.
func (f *Foretold) Sentence() string {
	if f.SaidSeconds == 0 {
		return ""
	}
	until, then := "or later", "they lasted"
	if f.LatestSeconds > 0 {
		until = "to " + Duration(f.LatestSeconds)
	}
	if f.ExhaustedSeconds > 0 {
		then = "they did after " + Duration(f.ExhaustedSeconds)
	}
	return fmt.Sprintf("After %s it was foretold that %s runs out of ports to %s after %s (%s %s), because of %s; %s.", Duration(f.SaidSeconds),
		cmp.Or(f.Node, "the NAT gateway"), f.Destination, Duration(f.ForetoldSeconds), Duration(f.EarliestSeconds), until, f.Cause, then)
}

// Stranded is [snat.StrandedPorts].
type Stranded struct {
	Name          string `json:"name"` // of the node that has refused
	IPv6          bool   `json:"ipv6"`
	Protocol      string `json:"protocol"`
	Failed        uint64 `json:"failed"`        // packets
	FreePorts     int    `json:"freePorts"`     // its own, which could serve other destinations only
	FreeElsewhere int    `json:"freeElsewhere"` // of all other nodes
}

// Course is samples of a simulation over time. All lists are as long as Seconds.
type Course struct {
	Seconds []float64 `json:"seconds"` // when each was taken, ascending
	Refused []uint64  `json:"refused"` // conversations since the one before
	Uses    []Uses    `json:"uses"`    // what ports were in use for
	Nodes   []Line    `json:"nodes"`   // the fullest, at most 12; of frontends where ports are shared
}

// Line is the ports of a node, or of a frontend where ports are shared, over time.
type Line struct {
	Name      string `json:"name"`
	IPv6      bool   `json:"ipv6"`
	Protocol  string `json:"protocol"`
	Allocated []int  `json:"allocated"` // ports
	Used      []int  `json:"used"`      // the most since the sample before
}

// Upgrade is what becomes of the traffic while a node pool is upgraded.
type Upgrade struct {
	Pool         string  `json:"pool"`
	BeginSeconds float64 `json:"beginSeconds"`
	EndSeconds   float64 `json:"endSeconds"` // of its last step; 0 if that is after the run
	Steps        []Step  `json:"steps"`
	MostNodes    int     `json:"mostNodes"` // that there were at once
	Moved        int     `json:"moved"`     // pods that left a node, each time they did
	Lost         uint64  `json:"lost"`      // conversations that ended with their pod
	Result       Result  `json:"result"`
}

// Step is a step of an upgrade.
type Step struct {
	Seconds float64  `json:"seconds"`
	Action  string   `json:"action"`
	Nodes   []string `json:"nodes"`
}

// Finding is one thing that a run shows.
type Finding struct {
	Code string `json:"code"` // for programs; stays
	Text string `json:"text"` // for people
}
