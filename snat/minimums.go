package snat

// The idle timeouts that RFCs demand at least. Read RFC 4787 section 4.3 (REQ-5) and
// RFC 5382 section 5 (REQ-5) first.

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Specification constants: what Policy.EnforceMinimums enforces.
const (
	minUDPIdle        = 120 * time.Second  // RFC 4787 REQ-5
	minTCPEstablished = 7440 * time.Second // RFC 5382 REQ-5
)

// minimums complains about timeouts of a policy below those of the RFCs.
func (v *validation) minimums(prefix string, p *Policy) {
	t := p.timeouts()
	for _, f := range []struct {
		name       string
		value, min time.Duration
	}{
		{"TCPEstablished", t.TCPEstablished, minTCPEstablished},
		{"TCPHalfClosed", t.TCPHalfClosed, minTCPEstablished},
		{"UDP", t.UDP, minUDPIdle},
		{"UDPReplied", t.UDPReplied, minUDPIdle},
	} {
		if f.value < f.min {
			v.Add(prefix+"Timeouts."+f.name, f.value, flow.ErrOutOfRange, "at least %v with EnforceMinimums", f.min)
		}
	}
}
