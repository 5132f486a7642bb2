package labs

// The rows of the differential lab.

import (
	"bytes"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	p "github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// open is the handshake of client:5000 with remote:80; the client's next sequence
// number is 101, the remote's 501.
func open(s *script) {
	s.tcp("client:5000 > remote:80", "S", p.Seq(100))
	s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
	s.tcp("client:5000 > remote:80", "A", p.Seq(101), p.Ack(501))
}

// shut is the end of open's connection, the client first.
func shut(s *script) {
	s.tcp("client:5000 > remote:80", "FA", p.Seq(101), p.Ack(501))
	s.tcp("remote:80 > frontend:?", "FA", p.Seq(501), p.Ack(102))
	s.tcp("client:5000 > remote:80", "A", p.Seq(102), p.Ack(502))
}

// masqueradeRows are played in order, each with hosts of its own. A row with a
// reason must differ, and one without must not.
var masqueradeRows = []struct {
	name string
	only string // a family's name; empty: both
	why  string // how and why they differ
	run  func(*script)
}{
	{name: "TCP: handshake, data, and the end from the inside", run: func(s *script) {
		open(s)
		s.tcp("client:5000 > remote:80", "PA", p.Seq(101), p.Ack(501), p.Payload("")) // no data: sequence numbers stay
		s.tcp("remote:80 > frontend:?", "A", p.Seq(501), p.Ack(101))
		shut(s)
	}},
	{name: "TCP: data both ways", run: func(s *script) {
		open(s)
		s.tcp("client:5000 > remote:80", "PA", p.Seq(101), p.Ack(501), p.Payload("question"))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(109), p.Payload("answer!"))
	}},
	{name: "TCP: the SYN is sent again", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "S", p.Seq(100))
		s.tcp("client:5000 > remote:80", "S", p.Seq(100))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
		s.tcp("client:5000 > remote:80", "S", p.Seq(100))
	}},
	{name: "TCP: simultaneous open", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "S", p.Seq(100))
		s.tcp("remote:80 > frontend:?", "S", p.Seq(500))
		s.tcp("client:5000 > remote:80", "SA", p.Seq(100), p.Ack(501))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
		s.tcp("client:5000 > remote:80", "A", p.Seq(101), p.Ack(501))
	}},
	{name: "TCP: a new SYN after both FINs", run: func(s *script) {
		open(s)
		shut(s)
		s.tcp("client:5000 > remote:80", "S", p.Seq(1_000_000))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(2_000_000), p.Ack(1_000_001))
	}},
	{name: "TCP: late segments after both FINs", run: func(s *script) {
		open(s)
		shut(s)
		s.tcp("remote:80 > frontend:?", "FA", p.Seq(501), p.Ack(102))
		s.tcp("client:5000 > remote:80", "A", p.Seq(102), p.Ack(502))
	}},
	{name: "TCP: half-closed, the remote still sends", run: func(s *script) {
		open(s)
		s.tcp("client:5000 > remote:80", "FA", p.Seq(101), p.Ack(501))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(102), p.Payload("still here"))
		s.tcp("client:5000 > remote:80", "A", p.Seq(102), p.Ack(511))
	}},
	{name: "TCP: the remote refuses, and is asked again", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "S", p.Seq(100))
		s.tcp("remote:80 > frontend:?", "RA", p.Seq(0), p.Ack(101))
		s.tcp("remote:80 > frontend:?", "RA", p.Seq(0), p.Ack(101))
		s.tcp("client:5000 > remote:80", "S", p.Seq(200))
	}},
	{name: "TCP: reset by the remote, then a new SYN", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "R", p.Seq(501))
		s.tcp("client:5000 > remote:80", "S", p.Seq(1_000_000))
	}},
	{name: "TCP: reset by the client, then late data of both", run: func(s *script) {
		open(s)
		s.tcp("client:5000 > remote:80", "R", p.Seq(101))
		s.tcp("client:5000 > remote:80", "PA", p.Seq(101), p.Ack(501), p.Payload("late"))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(101), p.Payload("late"))
	}},
	{name: "TCP: a RST outside the window does not end the connection", why: "Linux drops it as invalid. We forward it without effect on the session: the receiver judges it better (RFC 5961).", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "R", p.Seq(1_000_000_000))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(101), p.Payload("goes on"))
	}},
	{name: "TCP: data outside the window", why: "Linux drops it as invalid. We forward it without effect on the session: the receiver judges it better.", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(1_000_000_000), p.Ack(101), p.Payload("too far"))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(101), p.Payload("goes on"))
	}},
	{name: "TCP: a segment of no connection, from the inside", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "A", p.Seq(101), p.Ack(501))
		s.tcp("remote:80 > frontend:5000", "A", p.Seq(501), p.Ack(101))
	}},
	{name: "TCP: a SYN-ACK of no connection, from the inside", why: "Linux holds it for invalid, and what is invalid is neither tracked nor translated: it leaves with its inside address. We drop it.", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "SA", p.Seq(100), p.Ack(501))
	}},
	{name: "TCP: a RST of no connection, from the inside", why: "Linux holds it for invalid, and what is invalid is neither tracked nor translated: it leaves with its inside address. We drop it.", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "R", p.Seq(100))
	}},
	{name: "TCP: unasked from the outside", run: func(s *script) {
		s.tcp("remote:80 > frontend:5000", "S", p.Seq(100))
		s.tcp("remote:80 > frontend:5000", "A", p.Seq(100), p.Ack(7))
		s.tcp("remote:80 > frontend:5000", "R", p.Seq(100))
	}},
	{name: "TCP: another remote uses the outside port", run: func(s *script) {
		open(s)
		s.tcp("second:80 > frontend:?", "A", p.Seq(501), p.Ack(101))
		s.tcp("remote:81 > frontend:?", "A", p.Seq(501), p.Ack(101))
	}},
	{name: "TCP: the remote's SYN in an established connection", why: "Linux drops it as invalid. We forward it without effect on the session: the receiver judges it better (RFC 5961 section 4).", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "S", p.Seq(9_000_000))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(101), p.Payload("goes on"))
	}},
	{name: "TCP: the client's SYN in an established connection", run: func(s *script) {
		open(s)
		s.tcp("client:5000 > remote:80", "S", p.Seq(9_000_000))
		s.tcp("remote:80 > frontend:?", "A", p.Seq(501), p.Ack(101))
		s.tcp("client:5000 > remote:80", "R", p.Seq(101))
		s.tcp("client:5000 > remote:80", "S", p.Seq(9_000_000))
	}},
	{name: "TCP: the remote's SYN after both FINs", why: "Linux drops it as invalid. We forward it: the client's kernel answers, or does not.", run: func(s *script) {
		open(s)
		shut(s)
		s.tcp("remote:80 > frontend:?", "S", p.Seq(9_000_000))
	}},
	{name: "TCP: the SYN-ACK is sent again", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
		s.tcp("client:5000 > remote:80", "A", p.Seq(101), p.Ack(501))
	}},
	{name: "TCP: a RST in the window, but not at its edge", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "R", p.Seq(1000))
		s.tcp("client:5000 > remote:80", "A", p.Seq(101), p.Ack(501))
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(101), p.Payload("goes on"))
	}},
	{name: "TCP: data on a SYN", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "S", p.Seq(100), p.Payload("early"))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(106))
	}},
	{name: "TCP: a SYN that offers ECN and options", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "SEC", p.Seq(100), p.MSS(1460), p.WScale(7))
		s.tcp("remote:80 > frontend:?", "SAE", p.Seq(500), p.Ack(101), p.MSS(1440), p.WScale(9))
	}},
	{name: "TCP: SYN and FIN together", why: "Linux holds it for invalid, and what is invalid is neither tracked nor translated: it leaves with its inside address. We drop it.", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "SF", p.Seq(100))
	}},
	{name: "TCP: SYN with PSH", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "SP", p.Seq(100))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
	}},
	{name: "TCP: SYN with URG", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "SU", p.Seq(100))
		s.tcp("client:5000 > remote:80", "SPU", p.Seq(100))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
	}},
	{name: "TCP: RST with PSH", run: func(s *script) {
		open(s)
		s.tcp("remote:80 > frontend:?", "RP", p.Seq(501))
		s.tcp("client:5000 > remote:80", "S", p.Seq(9000))
	}},
	{name: "TCP: SYN from port 0", why: "Linux carries it. We drop it: no stack opens a connection from port 0.", run: func(s *script) {
		s.tcp("client:0 > remote:80", "S", p.Seq(100))
	}},
	{name: "TCP: no flags", why: "Linux holds it for invalid, and what is invalid is neither tracked nor translated: it leaves with its inside address. We drop it.", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "", p.Seq(100))
	}},
	{name: "TCP: the SYN's checksum is wrong", why: "Linux holds it for invalid, and what is invalid is neither tracked nor translated: it leaves with its inside address. We drop it.", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "S", p.Seq(100), p.BadChecksum())
	}},
	{name: "TCP: the checksum of data is wrong", why: "Linux holds it for invalid: outbound it leaves with its inside address, inbound it is for the host itself. We translate it, and the checksum stays as wrong as it was, for the receiver to see.", run: func(s *script) {
		open(s)
		s.tcp("client:5000 > remote:80", "PA", p.Seq(101), p.Ack(501), p.Payload("x"), p.BadChecksum())
		s.tcp("remote:80 > frontend:?", "PA", p.Seq(501), p.Ack(101), p.Payload("x"), p.BadChecksum())
	}},

	{name: "ports: kept towards different destinations", run: func(s *script) {
		s.udp("client:5000 > remote:53", "a")
		s.udp("other:5000 > second:53", "b")
		s.udp("other:5000 > remote:54", "c")
		s.tcp("client:5000 > remote:53", "S")
	}},
	{name: "ports: a clash from 1024 on", run: func(s *script) {
		s.udp("client:5000 > remote:53", "a")
		s.udp("other:5000 > remote:53", "b")
		s.udp("remote:53 > frontend:?", "to other")
		s.udp("remote:53 > frontend:5000", "to client")
	}},
	{name: "ports: a clash below 512", run: func(s *script) {
		s.udp("client:300 > remote:53", "a")
		s.udp("other:300 > remote:53", "b")
	}},
	{name: "ports: a clash from 512 to 1023", run: func(s *script) {
		s.udp("client:520 > remote:53", "a")
		s.udp("other:520 > remote:53", "b")
	}},
	{name: "ports: a clash of TCP", run: func(s *script) {
		s.tcp("client:5000 > remote:80", "S", p.Seq(100))
		s.tcp("other:5000 > remote:80", "S", p.Seq(200))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(201))
	}},
	{name: "ports: after a clash, towards another destination", why: "Linux first offers a socket the port that it has elsewhere. We keep its own where it is free.", run: func(s *script) {
		s.udp("client:5000 > remote:53", "a")
		s.udp("other:5000 > remote:53", "b")
		s.udp("other:5000 > second:53", "c")
	}},

	{name: "UDP: question and answer", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question")
		s.udp("remote:53 > frontend:?", "answer")
		s.udp("client:5000 > remote:53", "question")
	}},
	{name: "UDP: without payload", run: func(s *script) {
		s.udp("client:5000 > remote:53", "")
	}},
	{name: "UDP: unasked from the outside", run: func(s *script) {
		s.udp("remote:53 > frontend:5000", "hello")
		s.udp("client:5000 > remote:53", "question")
		s.udp("remote:54 > frontend:?", "another port")
		s.udp("second:53 > frontend:?", "another host")
	}},
	{name: "UDP: without checksum, IPv4", only: "IPv4", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.NoChecksum())
		s.udp("remote:53 > frontend:?", "answer", p.NoChecksum())
	}},
	{name: "UDP: without checksum, IPv6", only: "IPv6", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.NoChecksum())
		s.udp("remote:53 > frontend:?", "answer", p.NoChecksum())
	}},
	{name: "UDP: the checksum is wrong", why: "Linux holds it for invalid, and it leaves with its inside address. We translate it, and the checksum stays as wrong as it was.", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.BadChecksum())
	}},
	{name: "UDP: source port 0", why: "Linux carries it with port 0. Ours is exchanged for another of its class, since 0 is none of the ports.", run: func(s *script) {
		s.udp("client:0 > remote:53", "question")
	}},

	{name: "TTL: 2 and 255", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.TTL(2))
		s.udp("remote:53 > frontend:?", "answer", p.TTL(255))
	}},
	{name: "TTL: runs out on the way to the outside", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.TTL(1))
	}},
	{name: "TTL: runs out on the way to the inside", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question")
		s.udp("remote:53 > frontend:?", "answer", p.TTL(1))
	}},

	{name: "IPv4: options that do no harm", only: "IPv4", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.IPOptions(1, 1, 1, 0))
	}},
	{name: "IPv4: router alert", only: "IPv4", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.IPOptions(148, 4, 0, 0))
	}},
	{name: "IPv4: loose source route", only: "IPv4", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.IPOptions(131, 7, 4, 192, 0, 2, 9, 0))
	}},
	{name: "IPv4: the header checksum is wrong", only: "IPv4", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.Patch(10, 0xde, 0xad))
	}},
	{name: "IPv6: destination options", only: "IPv6", run: func(s *script) {
		s.udp("client:5000 > remote:53", "question", p.Extension(60, 1, 4, 0, 0, 0, 0))
	}},
	{name: "another protocol", why: "Linux exchanges addresses only. We know TCP, UDP and ICMP.", run: func(s *script) {
		src, dst := s.ends("client > remote")
		s.send("client > remote protocol 50", p.IP(src, dst, 50, []byte("an ESP packet, or so")))
	}},
	{name: "from the inside to the outside address", run: func(s *script) {
		s.udp("other:5000 > remote:53", "question")
		s.udp("client:5000 > frontend:?", "hello")
	}},

	{name: "ICMP: echo", run: func(s *script) {
		src, dst := s.ends("client > remote")
		s.send("client > remote ICMP echo request", p.ICMPEcho(src, dst, 1024, 1))
		src, dst = s.ends("remote > frontend")
		s.send("remote > frontend ICMP echo reply", p.ICMPEchoReply(src, dst, 1024, 1))
		s.send("remote > frontend ICMP echo reply, another identifier", p.ICMPEchoReply(src, dst, 1025, 1))
	}},
	{name: "ICMP: a hop tells about UDP", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		s.icmpError("hop > frontend", 11, 0, 3, 0, s.seen[flow.Outside])
		s.icmpError("remote > frontend", 3, 3, 1, 4, s.seen[flow.Outside])
	}},
	{name: "ICMP: a hop tells about TCP", run: func(s *script) {
		s.tcp("client:1024 > remote:80", "S", p.Seq(100))
		s.icmpError("hop > frontend", 3, 1, 1, 0, s.seen[flow.Outside])
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
	}},
	{name: "ICMP: the packet was too big", run: func(s *script) {
		s.tcp("client:1024 > remote:80", "S", p.Seq(100))
		s.tcp("remote:80 > frontend:?", "SA", p.Seq(500), p.Ack(101))
		s.tcp("client:1024 > remote:80", "A", p.Seq(101), p.Ack(501), p.Payload(strings.Repeat("x", 400)))
		s.icmpError("hop > frontend", 3, 4, 2, 0, s.seen[flow.Outside])
	}},
	{name: "ICMP: a quote of 8 bytes behind the header", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		quote := s.seen[flow.Outside]
		s.icmpError("hop > frontend", 11, 0, 3, 0, quote[:len(quote)-len("question")])
	}},
	{name: "ICMP: a quote of 4 bytes behind the header", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		quote := s.seen[flow.Outside]
		s.icmpError("hop > frontend", 11, 0, 3, 0, quote[:len(quote)-len("question")-4])
	}},
	{name: "ICMP: the client tells about an answer", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		s.udp("remote:53 > frontend:?", "answer")
		s.icmpError("client > remote", 3, 3, 1, 4, s.seen[flow.Inside])
	}},
	{name: "ICMP: a hop of the inside tells about an answer", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		s.udp("remote:53 > frontend:?", "answer")
		s.icmpError("other > remote", 11, 0, 3, 0, s.seen[flow.Inside])
	}},
	{name: "ICMP: an error about no flow", run: func(s *script) {
		src, dst := s.ends("frontend:1024 > remote:53")
		s.icmpError("hop > frontend", 11, 0, 3, 0, p.UDP(src, dst, "never sent"))
	}},
	{name: "ICMP: an error with a wrong checksum", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		src, dst := s.ends("hop > frontend")
		s.send("hop > frontend ICMP, bad checksum", p.ICMP(src, dst, 3, 0, 0, s.seen[flow.Outside], p.BadChecksum()))
	}},
	{name: "ICMP: an error about a header with a wrong checksum", only: "IPv4", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		quote := bytes.Clone(s.seen[flow.Outside])
		quote[10] ^= 0xff
		s.icmpError("hop > frontend", 11, 0, 3, 0, quote)
		s.udp("remote:53 > frontend:?", "answer")
		quote = bytes.Clone(s.seen[flow.Inside])
		quote[10] ^= 0xff
		s.icmpError("client > remote", 3, 3, 1, 4, quote)
	}},
	{name: "ICMP: source quench", only: "IPv4", run: func(s *script) {
		s.udp("client:1024 > remote:53", "question")
		s.icmpError("hop > frontend", 4, 0, 0, 0, s.seen[flow.Outside])
		s.udp("remote:53 > frontend:?", "answer")
		s.icmpError("client > remote", 4, 0, 0, 0, s.seen[flow.Inside])
	}},
	{name: "fragments: a datagram in two", why: "Linux reassembles, translates and cuts again. We translate each fragment by itself.", run: func(s *script) {
		src, dst := s.ends("client:1024 > remote:53")
		for i, f := range p.Fragments(p.UDP(src, dst, strings.Repeat("natplane", 250)), 1200, 7) {
			s.send("client:1024 > remote:53 UDP, fragment "+string(rune('1'+i))+" of 2", f)
		}
	}},
	{name: "fragments: the second comes first", run: func(s *script) {
		src, dst := s.ends("client:1024 > remote:53")
		cut := p.Fragments(p.UDP(src, dst, strings.Repeat("natplane", 250)), 1200, 7)
		s.send("client:1024 > remote:53 UDP, fragment 2 of 2", cut[1])
		s.send("client:1024 > remote:53 UDP, fragment 1 of 2", cut[0])
	}},
}
