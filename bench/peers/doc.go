// Command peers sends the same packets through natplane and through what a user would
// pick instead, in one run, and writes a table and plots of the ratios into results:
//
//	cd bench/peers && go run .
//
// Flags: -flows 1024,16384,64512,1032192 are the flow counts, -time how long each figure
// is measured, -out the directory, -peers a regular expression of the peers' names.
//
// Packets are IPv4 UDP datagrams of 64 bytes, built with gopacket, since pion's vnet and
// tailscale's natlab know nothing else. A figure is nanoseconds per packet. "new" opens
// all flows, one packet each, in a table that is empty at the start and grows.
// "established" then sends packets of flows chosen at random. Copying the packet in is
// part of every figure; building it is not.
//
// Terminology:
//   - Peer: one way to translate. It has a name, a limit of flows, and a remark on what is
//     unfair about the comparison, which stands below the table.
//   - Translator: a peer at work, set up for a number of flows.
//   - Workload: the packets of all flows, and the random order of established ones.
//
// A translator belongs to one goroutine. Before a figure counts, packets are sent one by
// one and what comes out is decoded by gopacket: the source must be an outside address,
// destination and payload must be as they were, and a flow must keep its port. That is
// outside the timed part.
//
// The kernel needs Linux, root, ip, ethtool, nsenter and nft, and is left out where one of
// them is missing.
package main
