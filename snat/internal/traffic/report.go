package traffic

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Frontend is the traffic of one frontend and protocol.
type Frontend struct {
	Addr     netip.Addr
	Protocol int      // index of the protocol's pools; all ICMP counts as queries
	Counts   [2]Count // by the side that packets came from
}

// Report is the traffic of some frontends, in the order of Frontends.
type Report struct {
	All []Frontend // by frontend, and then by protocol

	frontends []*ports.Frontend
	protocols int
}

// NewReport returns a report about frontends that counts nothing yet, for so many protocols.
func NewReport(frontends []*ports.Frontend, protocols int) *Report {
	r := &Report{make([]Frontend, 0, protocols*len(frontends)), frontends, protocols}
	for _, f := range frontends {
		for p := range protocols {
			r.All = append(r.All, Frontend{Addr: f.Addr, Protocol: p})
		}
	}
	return r
}

// Add adds row i of every frontend. Its lock must be held.
func (r *Report) Add(rows Rows, i int) {
	for k, f := range r.frontends {
		row := &rows[f.Index][i]
		for p := range r.protocols {
			for side := range 2 {
				r.All[k*r.protocols+p].Counts[side].Add(&row.Counts[p][side])
			}
		}
	}
}
