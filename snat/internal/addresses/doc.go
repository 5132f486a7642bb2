// Package addresses knows whose an address is, what happens to flows towards a
// destination, and which addresses may not begin a flow.
//
// Terminology, besides that of package snat:
//   - [Plan]: all of that for one realm. It is built first and then read from any number of
//     goroutines; whoever changes a configuration builds another one.
//   - Source: an inside address as packets have it: its instance and shard, packed into a
//     number, with flags where they need a closer look; 0 is nobody's.
//   - Front: an outside address as packets are sent to it, as a number: a frontend, an
//     instance's own address, or its public one; 0 is none of ours.
//   - Effect: what the row of the destination table means that a flow belongs to.
//
// Sources and fronts are found in one or two array reads, the effect as package prefixes
// finds a row. Nothing allocates or locks.
//
// It refuses to know sessions and packets, and of an instance all but its number, and its own and
// public addresses for the kind of session that it begins (begin.go).
package addresses
