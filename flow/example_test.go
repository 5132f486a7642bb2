package flow_test

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// addr is netip.MustParseAddrPort, for short.
func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// A flow table on its own: show it every packet and it tells which flow that
// belongs to, who began it and what state it is in.
func ExampleTable_Observe() {
	table, err := flow.NewTable(flow.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()

	// The key of a packet is its directed 5-tuple, here of a TCP connection (6)
	// in overlay network 0. The reverse is the key of the packets that answer.
	client := flow.MakeKey(addr("10.244.7.9:41000"), addr("203.0.113.80:443"), 6, 0)
	server := client.Reverse()

	for _, p := range []struct {
		at  time.Duration
		key flow.Key
		seg flow.Segment
	}{
		{0, client, flow.Segment{Seq: 100, Len: 1, Flags: flow.SYN, Scale: flow.NoScale}},
		{10 * time.Millisecond, server, flow.Segment{Seq: 700, Ack: 101, Len: 1, Flags: flow.SYN | flow.ACK, Scale: flow.NoScale}},
		{20 * time.Millisecond, client, flow.Segment{Seq: 101, Ack: 701, Flags: flow.ACK}},
		{30 * time.Millisecond, client, flow.Segment{Seq: 101, Ack: 701, Len: 1, Flags: flow.FIN | flow.ACK}},
	} {
		in, from, created := table.Observe(flow.At(p.at), p.key, &p.seg)
		fmt.Printf("%-4v  from %-7v  new %-5v  %s (%v)\n", p.at, from, created, in.State, in.Class)
	}
	// Output:
	// 0s    from inside   new true   syn-sent (tcp-opening)
	// 10ms  from outside  new false  syn-received (tcp-opening)
	// 20ms  from inside   new false  established (tcp-established)
	// 30ms  from inside   new false  fin-initiator (tcp-half-closed)
}

// IPv6 flows have keys of their own and share the table.
func ExampleTable_Observe6() {
	table, err := flow.NewTable(flow.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()

	k := flow.MakeKey6(addr("[fd00::7]:5353"), addr("[2001:db8::53]:53"), 17, 0)
	in, from, _ := table.Observe6(0, k, nil)
	fmt.Println(in.Inside, ">", in.Remote, in.Class, from)
	in, from, _ = table.Observe6(0, k.Reverse(), nil)
	fmt.Println(in.Inside, ">", in.Remote, in.Class, from)
	// Output:
	// [fd00::7]:5353 > [2001:db8::53]:53 udp inside
	// [fd00::7]:5353 > [2001:db8::53]:53 udp-replied outside
}

// An event-driven simulator asks when to come back instead of polling. The
// answer may be early, because a packet has put the deadline off or because it
// is far away; it is never late.
func ExampleTable_NextDeadline() {
	table, err := flow.NewTable(flow.Config{Timeouts: flow.Timeouts{UDP: 30 * time.Second, ICMP: 10 * time.Second}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()

	host, name, peer := addr("192.0.2.1:5000"), addr("198.51.100.53:53"), addr("198.51.100.9:5000")
	table.Observe(0, flow.MakeKey(host, name, 17, 0), nil)
	table.Observe(0, flow.MakeKey(host, peer, 1, 0), nil)
	table.Observe(flow.At(4*time.Second), flow.MakeKey(host, peer, 1, 0), nil)

	for now, ok := table.NextDeadline(); ok; now, ok = table.NextDeadline() {
		table.Expire(now, func(at flow.Time, in flow.Info) {
			fmt.Printf("%v  %v flow to %v, idle for %v\n", at, in.Class, in.Remote, in.Idle)
		})
	}
	fmt.Println(table.Len(), "left")
	// Output:
	// 14s  icmp flow to 198.51.100.9:5000, idle for 10s
	// 30s  udp flow to 198.51.100.53:53, idle for 30s
	// 0 left
}

// A driver with steps of its own calls Expire once per step; sessions still
// learn the exact moment of their end.
func ExampleTable_Expire() {
	table, err := flow.NewTable(flow.Config{Timeouts: flow.Timeouts{UDP: 1500 * time.Millisecond}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()

	table.Observe(0, flow.MakeKey(addr("192.0.2.1:5000"), addr("198.51.100.53:53"), 17, 0), nil)
	for now := flow.Time(0); table.Len() > 0; now = now.Add(time.Second) {
		n := table.Expire(now, func(at flow.Time, in flow.Info) { fmt.Println(in.Inside, "expired at", at) })
		fmt.Println(now, n)
	}
	// Output:
	// 0s 0
	// 1s 0
	// 192.0.2.1:5000 expired at 1.5s
	// 2s 1
}

// Sessions reads the table while it is in use. Its order follows the memory, so
// sort what people will see.
func ExampleTable_Sessions() {
	table, err := flow.NewTable(flow.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer table.Close()

	for _, port := range []uint16{5002, 5000, 5001} {
		src := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)
		table.Observe(0, flow.MakeKey(src, addr("198.51.100.53:53"), 17, 0), nil)
	}
	var lines []string
	for in := range table.Sessions() {
		lines = append(lines, fmt.Sprint(in.Inside, " > ", in.Remote, " ", in.Class))
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	// Output:
	// 192.0.2.1:5000 > 198.51.100.53:53 udp
	// 192.0.2.1:5001 > 198.51.100.53:53 udp
	// 192.0.2.1:5002 > 198.51.100.53:53 udp
}

// All problems of a configuration come in one error.
func ExampleNewTable() {
	_, err := flow.NewTable(flow.Config{Shards: 100, Timeouts: flow.Timeouts{UDP: -time.Second}})
	fmt.Println(err)
	// Output:
	// flow: Shards 100: out of range: 0..64
	// Timeouts.UDP -1s: timeout is not a whole number of milliseconds from 1 ms to 24 days
}
