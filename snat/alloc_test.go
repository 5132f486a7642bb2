package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// Packets of known flows allocate nothing, one by one and in batches, in both
// directions and families; nor do packets that are dropped.
func TestNoAllocations(t *testing.T) {
	const size = 100 // more than one internal batch
	for _, tc := range []struct{ name, proto, vm, frontend, server string }{
		{"TCP over IPv4", "tcp", vmA, frontend, serverA},
		{"TCP over IPv6", "tcp", vmA6, frontend6, serverA6},
		{"UDP over IPv4", "udp", vmA, frontend, serverA},
		{"UDP over IPv6", "udp", vmA6, frontend6, serverA6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBed(t, oneVM(128))
			remote := socket(tc.server, 443)
			var out, in [][]byte
			for i := range size {
				inside := socket(tc.vm, 5000+i)
				if tc.proto == "udp" {
					outside := b.opens("udp", inside, remote)
					out, in = append(out, pkttest.UDP(inside, remote, "x")), append(in, pkttest.UDP(remote, outside, "x"))
					continue
				}
				outside := b.dials(inside, remote)
				out = append(out, pkttest.TCP(inside, remote, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))
				in = append(in, pkttest.TCP(remote, outside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001)))
			}
			stray := pkttest.UDP(remote, socket(tc.frontend, 1150), "x")
			buf, verdicts := make([]byte, 128), make([]flow.Verdict, size)
			bufs := make([][]byte, size)
			for i := range bufs {
				bufs[i] = make([]byte, 128)
			}
			now := flow.Time(0)
			for name, once := range map[string]func(){
				"Outbound": func() { require.Equal(t, flow.Forward, b.Outbound(now, buf[:copy(buf, out[7])]).Action) },
				"Inbound":  func() { require.Equal(t, flow.Forward, b.Inbound(now, buf[:copy(buf, in[7])]).Action) },
				"a drop":   func() { require.Equal(t, flow.ReasonNoFlow, b.Inbound(now, buf[:copy(buf, stray)]).Reason) },
				"OutboundBatch": func() {
					for i := range bufs {
						bufs[i] = bufs[i][:copy(bufs[i][:128], out[i])]
					}
					b.OutboundBatch(now, bufs, verdicts)
				},
				"InboundBatch": func() {
					for i := range bufs {
						bufs[i] = bufs[i][:copy(bufs[i][:128], in[i])]
					}
					b.InboundBatch(now, bufs, verdicts)
				},
			} {
				n := testing.AllocsPerRun(200, func() {
					now = now.Add(time.Millisecond)
					once()
				})
				if pkttest.Race && (name == "OutboundBatch" || name == "InboundBatch") {
					continue // under the race detector a sync.Pool forgets on purpose
				}
				assert.Zero(t, n, name)
			}
			for i, v := range verdicts {
				assert.Equal(t, flow.Forward, v.Action, "packet %d", i)
			}
		})
	}
}

// A new flow costs no garbage once the tables have grown, nor do the ends of old
// ones that it finds due.
func TestNoAllocationsOfNewFlows(t *testing.T) {
	b := newBed(t, oneVM(1024))
	syn := make([][]byte, 512)
	for i := range syn {
		syn[i] = pkttest.TCP(socket(vmA, 5000+i), serverA+":443", pkttest.SYN)
	}
	buf := make([]byte, 64)
	round := func() {
		for _, pkt := range syn {
			if v := b.Outbound(b.now, buf[:copy(buf, pkt)]); !v.New {
				t.Fatalf("verdict %+v (%v)", v, v.Reason)
			}
		}
		b.now = b.now.Add(time.Minute)
	}
	round()
	assert.Zero(t, testing.AllocsPerRun(20, round))
}
