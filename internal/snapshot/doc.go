// Package snapshot writes state to a stream and reads it back: the codec under every
// Snapshot and Restore.
//
// Terminology:
//   - Archive: one snapshot on its way, to be written or to be read. What has state goes through
//     it field by field, in one function for both ways, so that they cannot disagree.
//   - Kind: what the snapshot is of, such as "snat.NAT"; version: that of its layout.
//   - Section: a named part of it, for errors.
//   - Frame: at most [FrameSize] bytes of it, with a checksum behind them.
//
// # The format
//
//	"natplane" 0x00 0x01          magic, with the version of the format
//	version of the kind           2 bytes, little-endian
//	length of kind, kind          1 byte, and so many
//	frames                        length (4 bytes, little-endian, not 0), data, checksum
//	the end                       a frame of length 0
//
// The checksum is the xxHash (64 bits, little-endian) of all that comes before it in the stream,
// without other checksums. So a frame that is damaged, missing, doubled or moved is noticed with the
// first checksum after it, before anything of it is looked at, and a stream that ends early is
// noticed, too. In frames numbers are varints, and no value lies in two frames. Nothing depends on
// the size of words or the order of bytes of a machine.
//
// A checksum is no signature. Who forges one can write what no translator would, so whoever reads an
// archive checks what it gets: [Archive.Check]. Counts are bounded before memory is taken for them.
//
// A reader takes from its stream what belongs to the snapshot, and no byte more: several snapshots
// may stand behind each other, and one inside another ([Archive.Nest]).
//
// It refuses to know whose state it is. An Archive is not safe for concurrent use.
package snapshot
