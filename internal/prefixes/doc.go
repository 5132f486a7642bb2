// Package prefixes finds the row of a table that an address, a protocol and a port
// belong to: the one with the longest prefix, and among those with the same prefix
// the first one. A row that the protocol or port does not fit is passed over, for the
// next one of its prefix and then for those of the prefix around it.
//
// A table is immutable: build it once with [New], then look rows up from any number
// of goroutines. It refuses to know what a row means.
//
// Cost: New O(n log n) for n rows. A look-up is a search among the places where the
// longest prefix changes, at most two for each prefix; an index of equal parts of the
// addresses leaves it few of them unless prefixes crowd in one place, and then a binary
// search. Another one finds the row by the port, if the prefix has several; and only
// where none fits, the prefixes around it are asked. Memory is 28 bytes for each such
// place and 20 for a prefix.
package prefixes
