// Package labs puts a translator between two real hosts: network namespaces with
// the stacks of the Linux kernel, joined by a router of package router. Its tests
// are the kernel labs; the self-test of examples/gateway uses the same lab.
//
// It knows namespaces, addresses and servers. It refuses to know how a translator
// is configured: whoever makes a lab brings the engine, for the addresses below.
//
// Terminology, used exactly so in names and comments:
//   - Client: the host on the inside; it has an address of each family and routes
//     everything into its TUN device.
//   - Server: the host on the outside; it stands for the Internet, and routes
//     everything into its own.
//   - Backend: a further host on the inside, behind the client's, that serves what
//     comes to a frontend.
//   - Audit: the check of each packet on its way out of the router: its
//     checksums, and that each side sees only addresses it may see.
//
// The differential lab (TestLabMasquerade) is another network: single packets go
// through the kernel's own masquerading and through the preset linux-masquerade,
// and testdata/linux-masquerade.txt shows what each makes of them, with a reason
// for every difference. After segments at random, and after a while, the state and
// the time left of a connection are compared as well.
//
// The lab of a load balancer (TestLabBalance) has two machines inside, each at a device of
// its own and with a program that can be killed, and real probes that come from the
// platform, a host beside the load balancer; the server's host is the clients'. The load
// balancer's time runs 20 times faster than the clock's there. Clients talk all the time
// while machines are killed, refuse, are cut off and come back.
//
// The lab of Services (TestLabServices) has the hosts of a cluster twice: once with package
// overlay as their network, nodes included, and once with nodes that are Linux and have
// kube-proxy's rules. A real curl asks a real server, and both have to show it the same
// client.
//
// A lab needs Linux and root, see package netlab; everything in it goes away with
// the test or the process, however that ends. What a test does there takes
// as long as the machine needs: no count depends on how quickly goroutines run or
// which ports a kernel draws, and whatever is waited for ends, well or badly,
// within two minutes.
package labs
