// Package capture reads and writes capture files, for programs and tests that
// work on packets of the outside world: pcap and pcapng of either byte order in,
// also compressed and whatever the link type, and pcap of raw IP out. It repairs what
// is wrong because of where a capture was made. It knows headers only as far as
// that needs: nothing of flows and directions.
//
// Terminology:
//   - Frame: what a capture file holds for one moment, link layer included.
//   - Packet: the IP packet in a frame, from its IP header on.
//   - Layer: a header or a tag in front of the packet, which says what comes next.
//   - Kind: what a frame holds instead of a packet.
//   - Cut: of a frame, kept in part only; of a packet, without its end.
//
// A file is read in one walk over its records, in place: packets alias the file,
// and nothing that a length field claims is believed before it has been compared
// with the bytes at hand. The formats are those of draft-ietf-opsawg-pcap and
// draft-ietf-opsawg-pcapng.
//
// [Load] and [Create] wait for pipes and devices no longer than their context lasts.
//
// Functions may be called concurrently; a [File] belongs to one goroutine.
package capture
