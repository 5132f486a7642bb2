package snat_test

// A driver that asks for the next deadline only when it is told.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// eventful is a driver of a translator. It advances it at every deadline that it
// knows, and asks only when it is told that there may be an earlier one.
type eventful struct {
	t       *testing.T
	nat     *snat.NAT
	rng     *rand.Rand
	now     flow.Time
	next    flow.Time // the deadline it knows, if any
	waits   bool
	asked   int
	packets int
	met     map[string]int // what was due, by kind

	inside  []netip.Addr
	outside []netip.AddrPort // sockets that inside hosts have appeared as
}

func (d *eventful) ask() {
	d.next, d.waits = d.nat.NextDeadline()
	d.asked++
}

// until moves time on.
func (d *eventful) until(now flow.Time) {
	for d.waits && d.next <= now {
		d.now = max(d.now, d.next)
		if first, what := d.nat.FirstDue(); what != "" && first <= d.now {
			d.met[what]++
		}
		d.nat.Advance(d.now, func(e flow.Emission) {
			assert.LessOrEqual(d.t, d.now.Sub(e.At), flow.Tick, "a packet that is late: %v", e.To)
		})
		d.ask()
	}
	d.now = now
}

// send passes one packet, and looks whether a deadline has been missed.
func (d *eventful) send(from flow.Side, pkt []byte) {
	door := d.nat.Outbound
	if from == flow.Outside {
		door = d.nat.Inbound
	}
	v := door(d.now, pkt)
	d.packets++
	if v.Action == flow.Forward && v.New && from == flow.Inside {
		if src, ok := netip.AddrFromSlice(pkt[12:16]); ok && pkt[0]>>4 == 4 {
			d.outside = append(d.outside, netip.AddrPortFrom(src, uint16(pkt[20])<<8|uint16(pkt[21])))
		}
	}
	if d.nat.DeadlineMoved() {
		d.ask()
	}
	first, what := d.nat.FirstDue()
	if what != "" && (!d.waits || d.next > first) {
		d.t.Fatalf("at %v, packet %d: a %s is due at %v; the driver waits for %v (%v)", d.now, d.packets, what, first, d.next, d.waits)
	}
}

// play sends random packets for a while.
func (d *eventful) play(packets int) {
	flags := []string{"S", "S", "SA", "A", "A", "A", "FA", "FA", "R", "RA"}
	pick := func(n int) int { return d.rng.IntN(n) }
	for range packets {
		switch pick(12) {
		case 0:
			d.until(d.now.Add(time.Duration(pick(400)) * time.Second))
		case 1, 2, 3:
			d.until(d.now.Add(time.Duration(pick(3000)) * time.Millisecond))
		}
		local := fmt.Sprintf("%v:%d", d.inside[pick(len(d.inside))], 5000+pick(6))
		remote := fmt.Sprintf("198.51.100.%d:%d", 7+pick(3), []int{53, 443, 9000}[pick(3)])
		src, dst, from := local, remote, flow.Side(pick(2))
		if from == flow.Outside {
			if len(d.outside) == 0 {
				continue
			}
			src, dst = remote, d.outside[max(0, len(d.outside)-1-pick(8))].String()
		}
		var fields []pkttest.Field
		if pick(10) == 0 {
			fields = append(fields, pkttest.TTL(1))
		}
		switch kind := pick(10); {
		case kind < 5:
			seq := []uint32{1000, 1001, 1002, 5000, 5001}
			fields = append(fields, pkttest.TCPFlags(flags[pick(len(flags))]), pkttest.Seq(seq[pick(5)]), pkttest.Ack(seq[pick(5)]))
			d.send(from, pkttest.TCP(src, dst, fields...))
		case kind < 8:
			d.send(from, pkttest.UDP(src, dst, "data", fields...))
		case kind == 8:
			pieces := halves(pkttest.UDP(src, dst, fmt.Sprintf("%64d", 1), pkttest.ID(uint16(pick(9)))))
			d.rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			for _, p := range pieces[pick(2):] {
				d.send(from, p)
			}
		default:
			a, b := netip.MustParseAddrPort(src).Addr().String(), netip.MustParseAddrPort(dst).Addr().String()
			d.send(from, pkttest.ICMPEcho(a, b, uint16(pick(4)), 1, fields...))
		}
	}
}

// A driver that asks NextDeadline only after Advance, and when DeadlineMoved says so,
// never waits for longer than until the first thing that is due: with any preset,
// fragments, ICMP errors, held SYNs, resting ports and sessions whose time becomes
// shorter.
func TestDeadlineMoved(t *testing.T) {
	pkttest.OneGoroutine(t)
	configs := map[string]snat.Config{}
	for _, p := range preset.All() {
		c, err := p.Configure(site(2, 1))
		require.NoError(t, err)
		configs[p.Name] = c
	}
	add := func(name string, c snat.Config, change func(*snat.Config)) {
		change(&c)
		configs["with "+name] = c
	}
	add("fragments", virtual(64), func(*snat.Config) {})
	add("held SYNs", holding(5), func(*snat.Config) {})
	add("resets", oneVM(64), func(c *snat.Config) { c.EnableTCPReset, c.ResetUnknown = true, snat.ResetSender })
	add("errors", oneVM(64), func(c *snat.Config) { c.ICMP = snat.ICMP{TTL: snat.TTLRouter, Errors: true, Queries: true} })
	add("resting ports", oneVM(64), func(c *snat.Config) { ownedPorts(c).Allocation.Quarantine.Hold = 30 * time.Second })
	add("replies that shorten", oneVM(64), func(c *snat.Config) {
		c.Timeouts.UDP, c.Timeouts.UDPReplied = 5*time.Minute, 20*time.Second
	})
	met, asked, packets := map[string]int{}, 0, 0
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			n, err := snat.New(c)
			require.NoError(t, err)
			defer n.Close()
			assert.True(t, n.DeadlineMoved(), "nobody has asked yet")
			d := &eventful{t: t, nat: n, rng: rand.New(rand.NewPCG(1, 1)), met: met}
			for _, inst := range c.Instances {
				for _, a := range inst.Addrs {
					if a.Is4() {
						d.inside = append(d.inside, a)
					}
				}
			}
			d.ask()
			for range 4 {
				d.play(600)
				d.until(d.now.Add(200 * time.Hour))
			}
			asked, packets = asked+d.asked, packets+d.packets
		})
	}
	for _, what := range []string{"session", "reset", "resting port", "fragment", "held SYN", "packet made"} {
		assert.NotZero(t, met[what], what)
	}
	t.Logf("%d packets, asked %d times, due: %v", packets, asked, met)
}

// Packets of established flows do not make a driver ask.
func TestDeadlineMoved_Established(t *testing.T) {
	b := newBed(t, oneVM(64))
	outside := b.dials(socket(vmA, 5000), socket(serverA, 443))
	b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
	_, ok := b.NextDeadline()
	require.True(t, ok)
	pkts, verdicts := [][]byte{pkttest.TCP(socket(vmA, 5000), socket(serverA, 443), pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))}, make([]flow.Verdict, 1)
	for i := range 10 {
		b.lazily(time.Duration(i) * time.Second)
		b.locally(socket(vmA, 5000), socket(serverA, 443), "A", 1001, 5001)
		b.remotely(socket(serverA, 443), outside, "A", 5001, 1001)
		b.out(pkttest.UDP(socket(vmA, 5000), socket(serverA, 53), "query"))
		b.OutboundBatch(b.now, pkts, verdicts)
		require.False(t, b.DeadlineMoved())
	}
	b.opens("udp", socket(vmA, 5001), socket(serverA, 53))
	require.False(t, b.DeadlineMoved(), "a new flow that waits no less long than those before")
	b.remotely(socket(serverA, 443), outside, "R", 5001, 0)
	assert.True(t, b.DeadlineMoved(), "a RST shortens the wait")
	_, ok = b.NextDeadline()
	require.True(t, ok)
	assert.False(t, b.DeadlineMoved())
	_, err := b.Reconfigure(b.now, oneVM(128))
	require.NoError(t, err)
	assert.True(t, b.DeadlineMoved(), "another configuration")
}
