// Package pkttest builds readable packets for tests and checks what became of
// them, and says how long a test goes on ([Operations], [Short], [OneGoroutine],
// [Prompt]) and whether the race detector is on ([Race]). It is for tests only: it
// allocates freely and panics on arguments that make no packet. It stands on gopacket
// and on a plain word-by-word checksum, so that it shares no code with the package wire
// that it helps to test.
//
// Terminology:
//   - Packet: a []byte that starts at the IP header, with true checksums.
//   - Endpoint: "198.51.100.7:443", "[fd00::4]:443", or an address alone. The
//     addresses choose the IP version.
//   - Field: one property of a packet. A builder sets it, Check demands it.
//
// All functions may be called concurrently.
package pkttest
