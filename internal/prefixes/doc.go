// Package prefixes finds what an address belongs to.
//
//   - [Table]: the row that an address, a protocol and a port belong to. It is the one
//     with the longest prefix, and among those with the same prefix the first one. A
//     row that the protocol or port does not fit is passed over, for the next one of
//     its prefix and then for those of the prefix around it.
//   - [Disjoint4], [Disjoint6]: the value of the prefix that holds an address, where
//     prefixes do not overlap.
//   - [Addrs4], [Addrs6]: the value of a single address.
//   - [Names]: the name of the longest prefix that has an address, for people.
//   - [Nested]: which prefixes of a list lie in which.
//
// [Plus] and [Distance] are the arithmetic of addresses.
//
// All tables are built first and then read from any number of goroutines. None knows what a
// row or a value means. Nothing on the way of a packet allocates.
//
// Cost of a Table: New O(n log n) for n rows. A look-up is a search among the places
// where the longest prefix changes, at most two for each prefix; an index of equal parts
// of the addresses leaves it few of them unless prefixes crowd in one place, and then a
// binary search. Another one finds the row by the port, if the prefix has several; and
// only where none fits, the prefixes around it are asked. Memory is 28 bytes for each
// such place and 20 for a prefix. The cost of the maps stands with them.
package prefixes
