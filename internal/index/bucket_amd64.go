package index

// takeOut removes an entry from a bucket, in which the last one takes its place. It does
// nothing and reports false if the entry is not there, or if the bucket is full: then
// others may have gone past it.
//
//go:noescape
func takeOut(b *Bucket, tag, id uint32) bool
