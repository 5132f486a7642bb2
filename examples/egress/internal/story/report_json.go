// The report as one JSON object, for programs. The names of its fields stay.

package story

import (
	"encoding/json"
	"io"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// document is what -json prints. flows.active, flows.expired and used ports are
// those of the moment when the traffic ended; everything else is of the whole
// run, which goes on until the last flow has expired.
type document struct {
	Settings struct {
		Capture       string  `json:"capture"` // empty for the built-in one
		Nodes         int     `json:"nodes"`
		PodsPerNode   int     `json:"podsPerNode"`
		Placement     string  `json:"placement"`    // of the hosts of the capture; empty if pods were drawn for every copy
		IPs           int     `json:"ips"`          // outbound, per family
		PortsPerNode  int     `json:"portsPerNode"` // 0 is automatic
		IdleSeconds   float64 `json:"idleSeconds"`
		Copies        int     `json:"copies"`
		Seed          uint64  `json:"seed"`
		FailOnRefusal bool    `json:"failOnRefusal"`
		Checksums     string  `json:"checksums"`

		Cluster     []string `json:"cluster"`     // files; empty without any. nodes, portsPerNode and idleSeconds are theirs then, podsPerNode and ips mean nothing
		NotModelled []string `json:"notModelled"` // what they say and the cluster is without
	} `json:"settings"`
	Complete bool     `json:"complete"` // false if the run was interrupted
	Written  []string `json:"written"`  // captures
	Frames   struct {
		Total    int            `json:"total"`
		Cut      int            `json:"cut"`      // kept by the capture in part only
		Repaired int            `json:"repaired"` // with checksums that had not been computed
		Skipped  map[string]int `json:"skipped"`  // without an IP packet, by what they are
		Damage   string         `json:"damage"`   // of the file, the first; empty if it is sound
		LeftOut  int            `json:"leftOut"`  // packets that concern no host of -inside
	} `json:"frames"`
	Conversations struct {
		Recorded int `json:"recorded"` // in the capture
		Begun    int `json:"begun"`    // by pods
		Refused  int `json:"refused"`
		Cut      int `json:"cut"`   // reset while idle, with more to say
		Local    int `json:"local"` // stayed in the virtual network
	} `json:"conversations"`
	Packets struct {
		Outbound  int `json:"outbound"`
		Inbound   int `json:"inbound"`
		Forwarded int `json:"forwarded"`
		Bypassed  int `json:"bypassed"`
		Dropped   int `json:"dropped"`
	} `json:"packets"`
	Drops map[string]int `json:"drops"` // by reason code, those that occurred
	Flows struct {
		Created int `json:"created"`
		Active  int `json:"active"`
		Expired int `json:"expired"`
	} `json:"flows"`
	SNAT struct {
		Frontends   []frontendDocument `json:"frontends"`
		Connections struct {
			Successful int `json:"successful"`
			Failed     int `json:"failed"`
		} `json:"connections"`
	} `json:"snat"`
	RST struct {
		Generated  int `json:"generated"` // packets: an idle connection takes two
		ToPods     int `json:"toPods"`
		ToInternet int `json:"toInternet"`
	} `json:"rst"`
	Nodes        []nodeDocument        `json:"nodes"`        // in the order of the cluster
	Pods         []podDocument         `json:"pods"`         // likewise
	Destinations []destinationDocument `json:"destinations"` // in the order of the capture
	Findings     []finding             `json:"findings"`
	Digest       string                `json:"digest"` // of all packets, verdicts and resets: the same for the same run
	Seconds      struct {
		Virtual float64 `json:"virtual"`
		Wall    float64 `json:"wall"`
	} `json:"seconds"`
}

// frontendDocument is one outbound IP; TCP and UDP ports are counted together.
type frontendDocument struct {
	IP             netip.Addr `json:"ip"`
	AllocatedPorts int        `json:"allocatedPorts"`
	UsedPorts      int        `json:"usedPorts"` // that at least one new flow could not get
	PeakPorts      int        `json:"peakPorts"` // highest usedPorts; those of the protocols added up
	usesDocument
}

// usesDocument is what used ports are used for. Added up they are usedPorts.
type usesDocument struct {
	ActivePorts  int `json:"activePorts"`  // by a flow
	HeldFINPorts int `json:"heldFINPorts"` // kept from the destinations of closed connections
	HeldRSTPorts int `json:"heldRSTPorts"` // or of reset ones
	HeldUDPPorts int `json:"heldUDPPorts"` // or of datagram flows that are over
}

func usesOf(u snat.PortUses) usesDocument {
	return usesDocument{u.Active, u.HeldFIN, u.HeldRST, u.HeldUDP}
}

// nodeDocument is one node. Ports are those of the fuller family.
type nodeDocument struct {
	Name        string       `json:"name"`
	IP          netip.Addr   `json:"ip"`
	Flows       int          `json:"flows"`
	Failed      int          `json:"failed"`
	TCP         portDocument `json:"tcp"`
	UDP         portDocument `json:"udp"`
	UsedHistory []int        `json:"usedHistory"` // highest in each of equal parts of the run, of the fuller protocol
}

// portDocument counts SNAT ports.
type portDocument struct {
	AllocatedPorts int `json:"allocatedPorts"`
	UsedPorts      int `json:"usedPorts"`
	PeakPorts      int `json:"peakPorts"`
	usesDocument
}

// podDocument is one pod.
type podDocument struct {
	Name string       `json:"name"`
	Node string       `json:"node"`
	IPs  []netip.Addr `json:"ips"`
	trafficDocument
}

// destinationDocument is one destination of the capture.
type destinationDocument struct {
	Address netip.AddrPort `json:"address"`
	trafficDocument
}

// trafficDocument is what a pod or destination took part in.
type trafficDocument struct {
	Conversations int `json:"conversations"`
	Refused       int `json:"refused"`
	Packets       int `json:"packets"`
}

func (t traffic) document() trafficDocument {
	return trafficDocument{t.conversations, t.refused, t.packets}
}

// addrs returns the addresses of a pod.
func (p *pod) addrs() []netip.Addr {
	if p.v6.IsValid() {
		return []netip.Addr{p.v4, p.v6}
	}
	return []netip.Addr{p.v4}
}

// writeJSON prints the report as JSON.
func (r *report) writeJSON(w io.Writer) error {
	var d document
	o := &r.options
	d.Settings.Capture, d.Settings.Nodes, d.Settings.PodsPerNode, d.Settings.IPs = o.pcap, o.nodes, o.podsPerNode, o.ips
	d.Settings.PortsPerNode, d.Settings.IdleSeconds, d.Settings.Copies = o.ports, o.idle.Seconds(), r.copies
	d.Settings.Seed, d.Settings.FailOnRefusal, d.Settings.Checksums = o.seed, o.failOnRefusal, o.checksums.String()
	d.Settings.Placement = r.placement
	d.Settings.Cluster, d.Settings.NotModelled = append([]string{}, o.clusters...), []string{}
	if r.site != nil {
		d.Settings.NotModelled = append(d.Settings.NotModelled, r.site.NotModelled...)
	}
	d.Complete, d.Written = r.done == 1, []string{}
	if d.Complete && r.files != nil {
		d.Written = append(d.Written, r.files.inside.Name(), r.files.outside.Name())
	}
	d.Frames.Total, d.Frames.Skipped, d.Frames.LeftOut = r.recording.frames, r.recording.skipped, r.recording.elsewhere
	d.Frames.Cut, d.Frames.Repaired = r.recording.cut, r.recording.repairs.Packets
	if r.recording.damage != nil {
		d.Frames.Damage = r.recording.damage.Error()
	}
	d.Conversations.Recorded, d.Conversations.Begun = len(r.recording.conversations), r.conversations
	d.Conversations.Refused, d.Conversations.Cut, d.Conversations.Local = r.refused, r.cut, r.local
	d.Packets.Outbound, d.Packets.Inbound = r.outbound, r.inbound
	d.Packets.Forwarded, d.Packets.Bypassed, d.Packets.Dropped = r.forwarded, r.bypassed, r.dropped
	d.Drops = make(map[string]int)
	for reason := range flow.Reasons() {
		if n := r.drops[reason]; n > 0 {
			d.Drops[reason.String()] = n
		}
	}
	d.Flows.Created, d.Flows.Active, d.Flows.Expired = r.traffic.created, r.traffic.active, r.traffic.expired
	for i, f := range r.final.frontends {
		d.SNAT.Frontends = append(d.SNAT.Frontends, frontendDocument{
			f.ip, f.allocated, r.traffic.frontends[i].used(), f.peak, usesOf(r.traffic.frontends[i].uses),
		})
	}
	d.SNAT.Connections.Successful, d.SNAT.Connections.Failed = r.final.successful, r.final.failed
	d.RST.ToPods, d.RST.ToInternet = r.resets[flow.Inside], r.resets[flow.Outside]
	d.RST.Generated = d.RST.ToPods + d.RST.ToInternet
	for i, n := range r.final.nodes {
		then := r.traffic.nodes[i]
		d.Nodes = append(d.Nodes, nodeDocument{
			n.name, n.addr, n.flows, n.failed,
			portDocument{n.tcp.allocated, then.tcp.used(), n.tcp.peak, usesOf(then.tcp.uses)},
			portDocument{n.udp.allocated, then.udp.used(), n.udp.peak, usesOf(then.udp.uses)}, r.over(i),
		})
	}
	for _, p := range r.pods {
		d.Pods = append(d.Pods, podDocument{p.name, p.node, p.addrs(), p.traffic.document()})
	}
	for i, t := range r.destinations {
		d.Destinations = append(d.Destinations, destinationDocument{r.recording.destinations[i], t.document()})
	}
	d.Findings = append([]finding{}, r.findings()...)
	d.Digest = r.digest
	d.Seconds.Virtual, d.Seconds.Wall = r.virtual.Seconds(), r.wall.Seconds()
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
