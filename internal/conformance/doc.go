// Package conformance is the register of what RFCs, and a few rules that follow
// from them, demand of a NAT, and of what Azure does with the traffic of clusters and in its
// load balancers: one row per demand or statement, with what the library makes of it. It refuses to know the code
// that meets them.
//
// A row is proven by tests named after it, TestNAT_<ID>_<Slug>, in whichever
// package the demand can be seen best; a row may have several. The tests of this
// package read the sources of all tests and demand that each row which is not
// out of scope has a test, that rows in which a preset of Azure differs on
// purpose have subtests "rfc" and "azure", and that no test is named after a row
// that is not here. They also keep the table that is package snat/requirements: run
// them with -update to write it anew.
//
// Identifiers are letters for the subject and a number for the demand: U UDP, T
// TCP, I ICMP, P updates of these, C carrier-grade NAT, N NAT64, H headers, D
// deterministic mapping, L logs, R ports, K TCP tracker, X generated resets, Q
// ICMP messages, G fragments, E extension headers, M malformed and hostile
// packets, V checksum vectors.
//
// Rows of Azure (azure.go, azure_balancer.go) are called by section and name, and their tests
// TestAzureRow_<section>_<name>, or by names of their own that the tests of this package
// list; the worked examples of Azure's documents are TestAzure_<number>_... and have no rows.
// Their tables are the packages overlay/requirements and lb/requirements.
package conformance
