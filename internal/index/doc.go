// Package index maps 32-bit tags, part of a key's hash, to 32-bit record IDs. It
// knows no keys: whoever asks compares the record behind each candidate. It
// refuses to know what the records are, and takes no lock.
//
// Terminology:
//   - Bucket: one 64-byte cache line of eight slots, each a tag and an ID.
//     ID 0 marks a free slot.
//   - Segment: 1,024 buckets in one memory chunk. A tag's low bits name its
//     home bucket; when that is full the next ones are tried, around the end.
//   - Directory: the tag's high bits name the segment (extendible hashing).
//
// Growth. A segment that reaches its maximum load is split in two by the next
// high tag bit; that moves 7,168 entries at most, so no insertion stalls for
// long, however large the index is. When all bits of the directory are spent,
// the directory doubles.
//
// Deletion leaves no tombstones: if the bucket was full, an entry that had to
// pass it on its probe path is pulled back. Hence the rule that look-ups rely
// on: an entry lies in its home bucket or behind an unbroken run of full ones.
package index
