// Package testdata holds the recording that the command plays unless it is given another
// one. It lies here for all who read the file by its name.
package testdata

import _ "embed"

// Conversations is a capture of real TCP/IP stacks; TestRecord of package story makes it.
//
//go:embed conversations.pcap
var Conversations []byte
