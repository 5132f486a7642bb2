package preset

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// LinuxMasquerade is the masquerading of a Linux host: one address of each
// family, that of its outside interface; the source port is kept if no flow to
// the same destination has it, else a random one of its class is taken (1-511,
// 600-1023, or from 1024); TCP followed by the rules of nf_conntrack, see
// [flow.ConntrackRules], with its timeouts: established connections 5 days (settable),
// 300 s with unacknowledged data, without window, without a reply or after the same
// segment four times; SYN 120 s, which the SYN again does not renew, SYN-ACK 60 s;
// after a FIN 120 s, an ACK after it 60 s, a second FIN, whosever, 30 s, then an ACK
// 120 s; RST 10 s, but nothing before there is a reply; UDP 30 s and with a reply 120 s,
// ICMP 30 s. Echo and timestamps are carried, with their identifier if no other host
// has it towards the destination, and errors about flows; and TTL is counted down
// (Linux: nf_nat_core.c, nf_conntrack_proto_tcp.c, nf_conntrack-sysctl.rst).
//
// Linux differs where the engine has no counterpart: it first offers a socket the
// port that it has towards another destination; its search gives up after 248
// tries, where this one is exact; the longer timeout of UDP begins 2 s after the first
// packet; a SYN from the outside ends a connection in TIME_WAIT, which here goes on;
// what is out of the window is dropped or leaves untranslated, and here is forwarded
// without effect. As there (nf_conntrack_tcp_loose), a connection without known
// beginning is picked up by a segment from the inside with ACK, but no SYN, FIN or
// RST; a segment from the outside picks nothing up, for it has no port. The limit on all
// flows is the size of its table and memory; here there is none. Identifier 0 and UDP
// port 0 are exchanged for others. Linux reassembles fragments; here each is translated by
// itself, and waits as long as there, 30 s.
func LinuxMasquerade(s Site) (snat.Config, error) {
	const second = time.Second
	c, err := s.begin(nameLinuxMasquerade, 1, second, flow.MaxTimeout, second)
	if err != nil {
		return c, err
	}
	c.Timeouts = flow.ConntrackTimeouts()
	c.IdleTimeout, c.Timeouts.TCPEstablished = cmp.Or(s.IdleTimeout, c.Timeouts.TCPEstablished), 0
	c.Ports = &snat.Shared{
		Frontends: s.Frontends, FirstPort: 1, LastPort: 65535, Choice: snat.PreservePort,
		FlowsPerDestination: 65536, MaxFlows: 1<<31 - 1,
	}
	c.ICMP = snat.ICMP{
		Queries: true, Timestamps: true, AllowShortTimeout: true,
		Errors: true, SourceQuench: true, LenientQuotes: true, TTL: snat.TTLRouter,
	}
	c.Lenient = snat.Leniency{TCPFlags: true, UDPPortZero: true, UDP6Zero: true}
	c.Fragments = snat.Fragments{Mode: snat.FragmentsVirtual, Lifetime: 30 * second}
	c.EndRefused, c.PickUp, c.TCPRules = true, true, flow.ConntrackRules
	return c, nil
}
