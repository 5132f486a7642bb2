// Package index maps 32-bit tags, part of a key's hash, to 32-bit record IDs. It
// knows no keys: whoever asks compares the record behind each candidate. It
// refuses to know what the records are, and takes no lock.
//
// Terminology:
//   - Bucket: one 64-byte cache line of eight slots, each a tag and an ID.
//     ID 0 marks a free slot; those in use come first.
//   - Segment: 1,024 buckets in one memory chunk. A tag's low bits name its
//     home bucket; when that is full the next ones are tried, 64 at most, around
//     the end.
//   - Directory: the tag's high bits name the segment (extendible hashing).
//   - Chain: further segments behind one that has no room and is not worth
//     splitting. In them other bits name the home bucket.
//
// Growth. An index begins without memory, and with one segment of four buckets that
// grows fourfold until it has all. A segment that is getting full, at 25/32 of its
// slots, is split in two by the next high tag bit; that moves half of its entries, in
// some 60 µs. Where tags are random all segments get there at about the same time, so
// they take turns: after a split come 256 insertions without one. What has to wait goes
// on up to its maximum load, 7/8. So no insertion stalls for long, and no batch for
// several splits, however large the index is. When all bits of the directory are spent,
// the directory doubles.
//
// Chosen tags. Where the next bit does not divide a segment's entries, splitting it
// costs memory for nothing; where 64 buckets in a row are full, so does looking on.
// Then the segment gets a chain, of 15 at most. So a search visits 1,024 buckets in
// the worst case, and what finds no room even so is refused. Tags of a good hash whose
// key is secret never get there: a segment at its maximum load has a run of 64 full
// buckets once in some hundred times, which then costs one line more.
//
// Shrinking. Two neighbours that have become sparse are joined again, and with the
// last ones of its depth the directory is halved.
//
// Deletion leaves no tombstones: if the bucket was full, an entry that had to
// pass it on its probe path is pulled back. Hence the rule that look-ups rely
// on: an entry lies in its home bucket or behind an unbroken run of full ones, of
// its segment or of one in the chain of that.
package index
