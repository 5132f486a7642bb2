package preset

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Presets that are no product's: a NAT as the RFCs recommend it, and a
// carrier-grade one. Where an RFC gives a number, they have it; what it leaves
// open is our choice, and the comments say so.

// RFC is a NAT that does what the RFCs require and recommend of all NATs:
//   - UDP and TCP are mapped and filtered independent of the endpoint, ports are
//     shared with nobody (RFC 4787 REQ-1, REQ-3, REQ-8; RFC 5382 REQ-1, REQ-3,
//     REQ-7), hosts are paired with a frontend (RFC 4787 REQ-2, RFC 7857 section
//     4) and reach each other by hairpinning (RFC 4787 REQ-9, RFC 5382 REQ-8);
//   - ports are random (RFC 6056 section 4, RFC 7857 section 9), but of the source
//     port's class and parity if there are such (RFC 4787 REQ-3 a, REQ-4). When a
//     port for UDP or queries is free again, it rests for 120 s (RFC 6888 REQ-8, with
//     its exception for tracked TCP);
//   - sessions may idle for 300 s with UDP (RFC 4787 REQ-5 c), for 7,440 s with TCP,
//     established or closed by one end (RFC 5382 REQ-5), for 240 s opening, closing
//     and after RST (RFC 7857 section 2), for 60 s with queries (RFC 5508 REQ-2);
//   - queries and errors are translated, who gets no port is told so by ICMP 3/13
//     (RFC 5508 REQ-1, REQ-4, REQ-8), the TTL counts down (RFC 1812 section
//     5.3.1), and an unsolicited SYN is held for 6 s before its sender is told
//     (RFC 5382 REQ-4), 64 of them at most, which is our choice;
//   - SYNs of strangers to a mapping begin sessions (RFC 5382 REQ-3), of which 128 of
//     an inside address may be half-open, which is our choice: the oldest gives way
//     ([snat.Limits].HalfOpen; RFC 4987 section 3);
//   - fragments are translated in any order (RFC 4787 REQ-14).
//
// IdleTimeout is that of established TCP, at least 7,440 s. Our choice: the ports
// of each frontend from 8 on are divided evenly over the instances, the system
// ports by themselves, 8 at a time, and a single instance has all of them; or with
// PortsPerInstance, a multiple of 8, each has so many from 1024 on. The pool may have
// any size (RFC 6888 REQ-3), but an instance has no more than 516,096 ports of a
// family, so from eight frontends on there must be more instances than one.
func RFC(s Site) (snat.Config, error) { return rfc(nameRFC, s, snat.BlockSize, snat.BlockSize) }

// rfc is RFC with ports from first on, in units of so many.
func rfc(name string, s Site, first, unit int) (snat.Config, error) {
	const established = 7440 * time.Second
	c, err := s.begin(name, unlimited, established, flow.MaxTimeout, time.Second)
	if err != nil {
		return c, err
	}
	if n := s.PortsPerInstance; n < 0 || n%unit != 0 {
		return snat.Config{}, refuse(name, "PortsPerInstance", n, flow.ErrOutOfRange, "multiples of %d", unit)
	}
	if s.PortsPerInstance > 0 {
		err = s.preallocate(&c, name, s.PortsPerInstance, 64_512)
	} else {
		err = s.divide(&c, name, first, unit)
	}
	if err != nil {
		return snat.Config{}, err
	}
	const transitory, udp, queries = 240 * time.Second, 300 * time.Second, 60 * time.Second
	c.IdleTimeout = cmp.Or(s.IdleTimeout, established)
	c.Timeouts = flow.Timeouts{
		TCPOpening: transitory, TCPHalfClosed: c.IdleTimeout, TCPClosing: transitory, TCPTimeWait: transitory, TCPReset: transitory,
		UDP: udp, UDPReplied: udp, ICMP: queries,
	}
	c.EnforceMinimums = true
	open := snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
	c.Ports = &snat.Owned{
		TCP: open, UDP: open, Hairpin: true,
		Allocation: snat.Allocation{
			Choice: snat.RandomPort, Parity: true, Class: snat.PreferClass, Pooling: snat.Paired,
			Quarantine: snat.Quarantine{Hold: 120 * time.Second, ExemptTCP: true},
		},
		Limits: snat.Limits{HalfOpen: halfOpenSessions},
	}
	c.HoldSYN = snat.HoldSYN{Max: 64}
	c.Fragments = snat.Fragments{Mode: snat.FragmentsVirtual}
	c.ICMP = snat.ICMP{Queries: true, Timestamps: true, RandomIDs: true, Errors: true, TTL: snat.TTLRouter, Refusals: snat.RefuseProhibited}
	return c, nil
}

// divide grants the ports of every frontend from first on evenly to all instances,
// in units of so many; those below 1024 by themselves, so that all have some if
// there are enough.
func (s *Site) divide(c *snat.Config, name string, first, unit int) error {
	for _, part := range [][2]int{{first, flow.SystemPorts}, {max(first, flow.SystemPorts), 65536}} {
		each := (part[1] - part[0]) / max(len(c.Instances), 1) / unit * unit
		if each <= 0 {
			if part[1] > flow.SystemPorts {
				return refuse(name, "Instances", problems.Rawf("has %d elements", len(c.Instances)), flow.ErrTooMany, "there are no %d ports for each", unit)
			}
			continue
		}
		for i := range c.Instances {
			for _, f := range s.Frontends {
				c.Instances[i].Ports = append(c.Instances[i].Ports, snat.PortRange{Frontend: f, First: uint16(part[0] + i*each), Count: each})
			}
		}
	}
	return nil
}

// halfOpenSessions is how many sessions that strangers have begun an inside address
// may have half-open.
const halfOpenSessions = 128

// What CGN lets subscribers have. RFC 6888 wants limits and leaves the numbers to
// the administrator, so these are our choice.
const (
	cgnBlock    = 256 // ports
	cgnBlocks   = 8
	cgnSessions = 4096
	cgnRate     = 256 // new sessions per second
)

// CGN is a carrier-grade NAT (RFC 6888): RFC, with subscribers that are granted
// ports in blocks (REQ-14) from 1024 on, within limits (REQ-4, REQ-5); that are told
// of a refusal by ICMP 3/1, so that TCP tries again (REQ-11 B); and with a log of
// blocks, pairings and exhaustion, but not of sessions and their destinations
// (REQ-12), which [snat.Hooks].Event is told. Subscribers are the addresses in the
// instances' Inside.
//
// The numbers are our choice, as an administrator's: blocks of 256 ports and 8
// blocks of a subscriber, 4,096 sessions, 1,024 of them of one mapping, and 256 new
// sessions per second. PortsPerInstance must be a multiple of 256. One instance has
// up to eight frontends of a family.
func CGN(s Site) (snat.Config, error) {
	c, err := rfc(nameCGN, s, flow.SystemPorts, cgnBlock)
	if err != nil {
		return c, err
	}
	ports := c.Ports.(*snat.Owned)
	ports.Blocks = snat.PortBlocks{Size: cgnBlock, PerSubscriber: cgnBlocks}
	ports.Limits = snat.Limits{HalfOpen: halfOpenSessions, Sessions: cgnSessions, SessionsPerMapping: cgnSessions / 4, SessionRate: cgnRate}
	c.ICMP.Refusals = snat.RefuseHostUnreachable
	return c, nil
}
