// The report as one JSON object, for programs. The names of its fields stay.

package main

import (
	"encoding/json"
	"io"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// document is what -json prints. flows.active, flows.expired and usedPorts are
// those of the moment when the traffic ended; everything else is of the whole
// run, which goes on until the last flow has expired.
type document struct {
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
		Generated int `json:"generated"` // packets: an idle connection takes two
	} `json:"rst"`
	Seconds struct {
		Virtual float64 `json:"virtual"`
		Wall    float64 `json:"wall"`
	} `json:"seconds"`
}

// frontendDocument is one outbound IP; TCP and UDP ports are counted together.
type frontendDocument struct {
	IP             netip.Addr `json:"ip"`
	AllocatedPorts int        `json:"allocatedPorts"`
	UsedPorts      int        `json:"usedPorts"`
	PeakPorts      int        `json:"peakPorts"`
}

// writeJSON prints the report as JSON.
func (r *report) writeJSON(w io.Writer) error {
	var d document
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
		d.SNAT.Frontends = append(d.SNAT.Frontends, frontendDocument{f.ip, f.allocated, r.traffic.frontends[i].used, f.peak})
	}
	d.SNAT.Connections.Successful, d.SNAT.Connections.Failed = r.final.successful, r.final.failed
	d.RST.Generated = r.resets[flow.Inside] + r.resets[flow.Outside]
	d.Seconds.Virtual, d.Seconds.Wall = r.virtual.Seconds(), r.wall.Seconds()
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
