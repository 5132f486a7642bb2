package main

import (
	"bytes"
	"fmt"
	"net/netip"
)

// peer is one way to translate.
type peer struct {
	name   string
	most   int    // flows that it bears
	unfair string // what to know about the comparison
	open   func(flows int) (translator, error)

	// plain forwards without translating: what the path costs around a translation.
	plain bool

	kernel bool // its memory is not of this process
}

// translator is a peer at work.
type translator interface {
	// send translates packets. It may change them.
	send(pkts [][]byte) error
	// finish waits until all that was sent has left.
	finish() error
	// one translates one packet and returns what leaves, as an IP packet.
	one(pkt []byte) ([]byte, error)
	// bytes is all memory of the translator if it counts that itself, which is not all in
	// Go's heap then; 0 = it is what the heap has grown by.
	bytes() int
	close()
}

// peers are all, ours first: ratios are to it.
func peers() []peer {
	return append([]peer{
		{name: "natplane", most: 1 << 24, open: openNatplane,
			unfair: "Port blocks, TCP tracking, idle timers, statistics; both directions are indexed. It gets batches of 64."},
		{name: "natplane, packet by packet", most: 1 << 24, open: openNatplaneSingle,
			unfair: "The same, called once a packet, as the peers in Go are."},
		{name: "Go map and mutex", most: 1 << 24, open: openMap,
			unfair: "Does less: a table for both directions and the rewrite, no port blocks, no timers, no checks."},
		{name: "sync.Map", most: 1 << 24, open: openSyncMap, unfair: "As the Go map; its entries are boxed."},
		{name: "xsync.Map", most: 1 << 24, open: openXsync, unfair: "As the Go map."},
		{name: "gVisor netstack SNAT", most: 64_512, open: openGvisor(true),
			unfair: "Does more: it is a whole IP stack with routing and two devices; compare the next row."},
		{name: "gVisor netstack, forwarding alone", most: 64_512, open: openGvisor(false), plain: true,
			unfair: "No translation: what the row above costs around translation and connection tracking."},
		{name: "pion vnet", most: 16_384, open: openPion,
			unfair: "Does more: sockets, two routers with queues and goroutines on both CPUs. Its sockets are in the bytes per flow. It has no packets, only addresses and payloads, and UDP alone; ports end at 16,384."},
		{name: "tailscale natlab", most: 16_384, open: openNatlab,
			unfair: "Does less: it changes an address in a struct; no packet bytes, no checksums. Only its NAT is called, not its network."},
	}, kernelPeers()...)
}

// check sends some flows twice and proves what comes out, returning the first complaint.
func check(p peer, t translator, w *workload) error {
	seen := map[[2]netip.AddrPort]int{}
	buf := make([]byte, size)
	for k := range min(w.flows, 40) {
		i := k * (w.flows / min(w.flows, 40))
		var first netip.AddrPort
		for range 2 {
			w.packet(buf, i)
			out, err := t.one(buf)
			if err != nil {
				return fmt.Errorf("%s: flow %d: %w", p.name, i, err)
			}
			src, dst, data, err := decode(out)
			switch {
			case err != nil:
				return fmt.Errorf("%s: flow %d: %w", p.name, i, err)
			case dst != remote(i):
				return fmt.Errorf("%s: flow %d left to %v, not to %v", p.name, i, dst, remote(i))
			case !bytes.Equal(data, payload(i)):
				return fmt.Errorf("%s: flow %d left with payload %x", p.name, i, data)
			case p.plain && src != inside(i):
				return fmt.Errorf("%s: flow %d left from %v, not untranslated", p.name, i, src)
			case !p.plain && src.Addr() == inside(i).Addr():
				return fmt.Errorf("%s: flow %d left untranslated, from %v", p.name, i, src)
			case first.IsValid() && src != first:
				return fmt.Errorf("%s: flow %d left from %v and then from %v", p.name, i, first, src)
			}
			first = src
			if other, ok := seen[[2]netip.AddrPort{src, dst}]; ok && other != i {
				return fmt.Errorf("%s: flows %d and %d both left from %v to %v", p.name, i, other, src, dst)
			}
			seen[[2]netip.AddrPort{src, dst}] = i
		}
	}
	return nil
}
