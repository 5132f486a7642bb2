// Package scenario plays scenarios: text files that a reviewer can read, one story
// each, with what they print. They drive the bare translator, the presets, load
// balancers, NAT gateways and clusters alike.
//
// A file is blocks. A block is commands, a line of dashes, and what the commands print,
// up to an empty line. "#" begins a comment. The test writes what is printed into the
// files with -update; then read the difference.
//
// # What there is
//
// These commands describe the scene. They come before the first packet, or before a
// reconfigure.
//
//	instance NAME [addr=IP].. [inside=PREFIX].. [public=IP].. [realm=N]
//	         [ports=FRONTEND:FIRST+COUNT[/tcp|/udp]]..
//	frontend IP..
//	route PREFIX translate|node|pass|drop [both]
//	options [WORD].. [KEY=VALUE]..
//
// An instance that has the name of an earlier one replaces it. Without one of the
// following, instances have the ports that they name. With it they get them as it says,
// of the frontends; in a cluster, nodes and pods are made by it.
//
//	preset NAME [ports=N] [idle=DURATION] [seed=N]
//	balancer [basic] [ports=N] [idle=DURATION] [reset]
//	gateway [v2] [idle=DURATION]
//	cluster nodes=N [ips=N] [ports=N] [idle=DURATION] [dual]
//
// A load balancer has an outbound rule for all frontends, unless it is basic, or internal
// because its frontends are private, and these for what comes in:
//
//	rule NAME FRONTEND:PORT[/tcp|/udp] [backend=PORT] [probe] [floating] [reset]
//	     [idle=DURATION] [spread=source|source+protocol]
//	natpool NAME FRONTEND:PORT[/tcp|/udp] last=PORT backend=PORT
//
// All instances are in their pool. Port 0 is HA ports. A rule with probe asks them every
// 5 s; two results in a row count.
//
// Options of the translator are the words reset, icmp (queries and errors), router
// (TTLs count down), fragments, hairpin, open (anybody may send to a
// mapping; frontends are paired with hosts), refused (a refused connection frees its port
// at once), hold (SYNs from outside), traffic and answer (segments of unknown
// connections are answered); and idle=DURATION, grace=DURATION (of ports that are taken
// away), shards=N, udpshare=address|destination|never, maxflows=N and rest=DURATION (how
// long ports rest).
//
// # What happens
//
//	outbound SRC > DST tcp|udp|echo|error [WORD].. [KEY=VALUE]..
//	inbound SRC > DST ..
//	reply tcp|udp|echo ..
//	advance DURATION
//	steps DURATION
//	wait DURATION
//	repeat N COMMAND
//	down NAME..
//	up NAME..
//	reconfigure
//	refused
//
// Ends are addresses with ports, or without for echo and error; OUT is the source of the
// last packet that left. A reply comes from outside to the last packet that left, or that bypassed. The words
// of a TCP segment are its flags, such as SA; its keys seq, ack and len. A datagram has
// len. An echo has id, seq and len, and is a reply if it has the word reply. An error
// has type, code and of=last: it quotes the last packet that the other side received. Any packet
// may have ttl, the word bad (a wrong checksum), and cut=N: it goes in pieces with N
// bytes each, the last one first with the word backwards, and only the first one with the
// word first.
//
// What becomes of a packet is told with its new ends, wrong-checksum if a checksum is, and
// new if it began a session.
//
// Machines of a load balancer do not answer probes while they are down; else they do
// everything as before. The first advance begins the time of probes.
//
// Time passes by advance, in steps of bounded work by steps, and unnoticed by wait.
// What the translator sends itself follows, indented. repeat puts the number of the
// round, from 0, where the command has {}, or added to a number N where it has {N}; it
// prints how often each outcome occurred, first those that came first. reconfigure puts
// the scene as changed in place, and refused prints why a scene is none.
//
// # What can be seen
//
//	stats
//	frontends
//	sessions
//	traffic
//	digest
//
// stats are the ports of instances and the counters, frontends the ports of frontends,
// sessions all that there are, traffic what options traffic counts, and digest is the
// number that everything so far folds into; see package digest.
//
// Every error names the file, the line and the command.
package scenario
