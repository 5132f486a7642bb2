// Package netlab builds small networks out of Linux network namespaces, so that
// tests can put real kernel stacks on both sides of a translator.
//
// It knows namespaces, veth pairs, addresses, sysctls and TUN devices. It
// refuses to know what is tested in them: no NAT, no packets, no protocols.
//
// Terminology, used exactly so in names and comments:
//   - Lab: the networks of one test; everything in it goes away with the test.
//   - Namespace: one host of the lab, with its own interfaces, routes,
//     conntrack, nftables and sysctls.
//   - End: one interface of a veth pair, in its namespace.
//
// # Cleanup
//
// Namespaces have no name in the file system: a [Namespace] is an open file, and
// the kernel removes it, with its devices and routes, when the last file and
// the last process in it are gone. So nothing is left behind by a test that
// fails, panics, runs into its deadline or is killed, and parallel test
// processes cannot collide. To look into a running lab from a shell, use
// nsenter --net=PATH with the path from [Namespace.Path].
//
// # Where it works
//
// Labs need Linux, root and the tools named to [New]; [Require] skips the test
// where one is missing, and fails it where the environment says CI=true. All but
// Require exists on Linux only: keep lab tests in files called *_linux_test.go.
//
// A Lab and its namespaces are set up by one goroutine, the test's. After that,
// Do, Listen, ListenPacket, DialContext and Command may be called by any
// goroutine; the methods without an error result end the test on failure and
// belong to the test's goroutine.
package netlab
