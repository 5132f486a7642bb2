package labs

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// burst is the number of packets that a TUN device surely queues.
const burst = 200

// pour sends n packets from a side, not faster than the router takes them. It
// returns before the translator has seen the last.
func (l *Lab) pour(t *testing.T, from flow.Side, n int, send func(i int)) {
	t.Helper()
	received := func() uint64 { return l.Router.Device(from).Received }
	for sent := 0; sent < n; {
		before, first := received(), sent
		for ; sent < min(first+burst, n); sent++ {
			send(sent)
		}
		eventually(t, fmt.Sprintf("the router has taken %d packets", sent), func() bool { return received() >= before+uint64(sent-first) })
	}
}

func TestLabPortScan(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		l, nat := start(t, snat.Policy{}, 1024)
		client, server := l.connect(t, f, 7)
		before, port := nat.Stats(), nat.Frontends()
		scan := rawSocket(t, l.Server, f)
		scanner := netip.AddrPortFrom(f.Stranger, 40_000).String()
		const n = 5000 // every port that is in use, and many that nobody owns
		l.pour(t, flow.Outside, n, func(i int) {
			to := netip.AddrPortFrom(f.Frontend, uint16(1+i)).String()
			switch i % 3 {
			case 0:
				scan(pkttest.TCP(scanner, to, pkttest.TCPFlags("S")))
			case 1:
				scan(pkttest.TCP(scanner, to, pkttest.TCPFlags("A"), pkttest.Seq(uint32(i)), pkttest.Ack(1)))
			default:
				scan(pkttest.UDP(scanner, to, "anybody there?"))
			}
		})
		s := nat.Stats()
		eventually(t, "every packet of the scan is counted, as belonging to no flow or as filtered at the port of one", func() bool {
			s = nat.Stats()
			stray := s.Inbound.Drops[flow.ReasonNoFlow] - before.Inbound.Drops[flow.ReasonNoFlow]
			filtered := s.Inbound.Drops[flow.ReasonFiltered] - before.Inbound.Drops[flow.ReasonFiltered]
			return filtered <= 2 && stray+filtered == n // the connections of both families
		})
		// That none of them has reached the inside is seen by the audit.
		if s.SessionsCreated != before.SessionsCreated || s.SessionsActive != before.SessionsActive {
			t.Errorf("the scan has left something behind: %+v, before %+v", s, before)
		}
		for i, use := range nat.Frontends() {
			if use != port[i] {
				t.Errorf("ports %+v, before the scan %+v", use, port[i])
			}
		}
		echo(t, client, server)
	})
}

// A flood of SYNs from made-up inside sources takes the ports for its own
// destination and nothing more, and all of them come back after the timeout of
// half-open connections.
func TestLabSYNFlood(t *testing.T) {
	const (
		ports, n = 1024, 10_000
		halfOpen = time.Second
	)
	families(t, func(t *testing.T, f Family) {
		l, nat := start(t, snat.Policy{Timeouts: flow.Timeouts{TCPOpening: halfOpen}}, ports)
		client, server := l.connect(t, f, 7)
		before := nat.Stats()
		flood := rawSocket(t, l.Client, f)
		victim := netip.AddrPortFrom(f.Stranger, 80).String() // routed, but nobody
		began := time.Now()
		l.pour(t, flow.Inside, n, func(i int) {
			source := f.Client.AsSlice()
			source[len(source)-2], source[len(source)-1] = byte(i>>8), byte(i)|1
			from, _ := netip.AddrFromSlice(source)
			flood(pkttest.TCP(netip.AddrPortFrom(from, uint16(1024+i)).String(), victim, pkttest.TCPFlags("S"), pkttest.Seq(uint32(i))))
			if i%500 == 0 {
				echo(t, client, server)
				if active := nat.Stats().SessionsActive - before.SessionsActive; active > ports {
					t.Fatalf("%d sessions of the flood are active at once, its destination has %d ports", active, ports)
				}
			}
		})
		var created, refused int
		eventually(t, "every SYN of the flood has opened a session or found no port", func() bool {
			s := nat.Stats()
			created = int(s.SessionsCreated - before.SessionsCreated)
			refused = int(s.Outbound.Drops[flow.ReasonPorts] - before.Outbound.Drops[flow.ReasonPorts])
			return created+refused == n
		})
		// Ports come back while a slow machine still floods. Timers count in ticks.
		took := time.Since(began)
		if most := ports * (1 + int(took/(halfOpen-flow.Tick))); created < ports || created > most {
			t.Errorf("of %d SYNs in %v %d opened a session, want %d to %d", n, took, created, ports, most)
		}
		other, otherServer := l.connect(t, f, 9) // another destination: not touched by the flood
		echo(t, other, otherServer)
		eventually(t, "nothing is left of the flood", func() bool { return nat.Stats().SessionsActive == before.SessionsActive+1 })
		echo(t, client, server)
		s := nat.Stats() // the other connection may have taken more than one try
		if n, want := s.Expired[flow.ClassTCPOpening]-before.Expired[flow.ClassTCPOpening], s.SessionsCreated-before.SessionsCreated-1; n != want {
			t.Errorf("%d half-open sessions have expired, want %d", n, want)
		}
		eventually(t, "every port is free again", func() bool {
			used := 0
			for _, inst := range nat.Instances() {
				for _, p := range inst.Pools {
					used += p.Used
				}
			}
			return used <= 2
		})
	})
}
