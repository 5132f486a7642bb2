package scenario

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

func (s *stage) outbound(words []string) ([]string, error) { return s.through(flow.Inside, words) }
func (s *stage) inbound(words []string) ([]string, error)  { return s.through(flow.Outside, words) }

// reply sends from outside to where the last packet came from.
func (s *stage) reply(words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, errUsage
	}
	if s.last[flow.Outside] == nil {
		return nil, fmt.Errorf("no packet has left")
	}
	ends := strings.Fields(pkttest.String(s.last[flow.Outside]))
	if len(ends) < 4 || ends[2] != ">" {
		return nil, fmt.Errorf("the last packet that left was %s", strings.Join(ends, " "))
	}
	if words[0] == "echo" {
		words = append(words, "reply")
		if !strings.Contains(strings.Join(words, " "), "id=") {
			words = append(words, ends[6])
		}
	}
	return s.through(flow.Outside, append([]string{ends[3], ">", ends[1]}, words...))
}

// through sends a packet through a door, whole or in pieces, and says what became of it.
func (s *stage) through(from flow.Side, words []string) (lines []string, err error) {
	pieces, err := s.packet(from, words)
	if err != nil {
		return nil, err
	}
	door := s.nat.Outbound
	if from == flow.Outside {
		door = s.nat.Inbound
	}
	for _, pkt := range pieces {
		v := door(s.now, pkt)
		switch v.Action {
		case flow.Drop:
			lines = append(lines, "drop "+v.Reason.String())
			continue
		case flow.Queued:
			lines = append(lines, "queued")
			continue
		}
		line := fmt.Sprintf("%v %s", v.Action, shown(pkt))
		if fixed := slices.Clone(pkt); !strings.Contains(line, " frag ") {
			if pkttest.FixChecksums(fixed); !slices.Equal(pkt, fixed) {
				line += " wrong-checksum"
			}
		}
		if v.New {
			line += " new"
		}
		to := v.To
		if v.Action == flow.Bypass {
			to = 1 - from
		}
		s.last[to] = pkt
		lines = append(lines, line)
	}
	return lines, nil
}

// shown describes a packet as briefly as tells where it goes: its ends, and what has no
// ports wholly.
func shown(pkt []byte) string {
	text := pkttest.String(pkt)
	if words := strings.Fields(text); words[0] == "TCP" || words[0] == "UDP" {
		if words[4] != "frag" {
			return strings.Join(words[1:4], " ")
		}
	}
	if quoted := quote(pkt); quoted != nil {
		text += " about " + pkttest.String(quoted)
	}
	return text
}

// quote returns what an ICMP error quotes, or nil.
func quote(pkt []byte) []byte {
	var p wire.Packet
	if wire.Parse(pkt, &p) != wire.OK {
		return nil
	}
	header, isError := 20, func(t byte) bool { return t == 3 || t == 11 || t == 12 }
	if pkt[0]>>4 == 6 {
		header, isError = 40, func(t byte) bool { return t < 128 }
	}
	if words := strings.Fields(pkttest.String(pkt)); !strings.HasPrefix(words[0], "ICMP") || len(pkt) < header+8 || !isError(pkt[header]) {
		return nil
	}
	return pkt[header+8:]
}

// packet builds a packet, in pieces if it is cut. Its ends must be of one family.
func (s *stage) packet(from flow.Side, words []string) ([][]byte, error) {
	if len(words) < 4 || words[1] != ">" {
		return nil, errUsage
	}
	src, dst, proto := s.end(words[0]), s.end(words[2]), words[3]
	withPorts := proto == "tcp" || proto == "udp"
	if !isEnd(src, withPorts) || !isEnd(dst, withPorts) || strings.Contains(src, ".") != strings.Contains(dst, ".") {
		return nil, fmt.Errorf("%s > %s: no ends of such a packet: %w", src, dst, errUsage)
	}
	words = words[4:]
	flags := ""
	if proto == "tcp" && len(words) > 0 && isFlags(words[0]) {
		flags, words = words[0], words[1:]
	}
	a := parse(words, "seq ack len id ttl cut type code of", "bad backwards first reply")
	fields := []pkttest.Field{}
	if ttl := a.number("ttl", 255); ttl > 0 {
		fields = append(fields, pkttest.TTL(uint8(ttl)))
	}
	if a.is("bad") {
		fields = append(fields, pkttest.BadChecksum())
	}
	payload := strings.Repeat("x", int(a.number("len", 9000)))
	seq, ack, id := uint32(a.number("seq", 1<<32-1)), uint32(a.number("ack", 1<<32-1)), uint16(a.number("id", 1<<16-1))
	typ, code, cut := uint8(a.number("type", 255)), uint8(a.number("code", 255)), int(a.number("cut", 8992))
	if cut%8 != 0 {
		a.fail(fmt.Errorf("cut=%d: no multiple of 8: %w", cut, errUsage))
	}
	if a.err != nil {
		return nil, a.err
	}
	var pkt []byte
	switch proto {
	case "tcp":
		pkt = pkttest.TCP(src, dst, append(fields, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack), pkttest.Payload(payload))...)
	case "udp":
		pkt = pkttest.UDP(src, dst, payload, fields...)
	case "echo":
		build := pkttest.ICMPEcho
		if a.is("reply") {
			build = pkttest.ICMPEchoReply
		}
		pkt = build(src, dst, id, uint16(seq), append(fields, pkttest.Payload(payload))...)
	case "error":
		quoted := s.last[from]
		if a.text("of") != "last" || quoted == nil {
			return nil, fmt.Errorf("of=%s: an error quotes the last packet that its sender's side received: %w", a.text("of"), errUsage)
		}
		pkt = pkttest.ICMP(src, dst, typ, code, 0, quoted[:min(len(quoted), 128)], fields...)
	default:
		return nil, fmt.Errorf("%q: %w", proto, errUsage)
	}
	if cut == 0 {
		return [][]byte{pkt}, nil
	}
	pieces := pkttest.Fragments(pkt, cut, uint32(id)+1)
	if a.is("first") {
		pieces = pieces[:1]
	}
	if a.is("backwards") {
		slices.Reverse(pieces)
	}
	return pieces, nil
}

// end returns the source of the last packet that left for OUT, else the word itself.
func (s *stage) end(word string) string {
	if ends := strings.Fields(pkttest.String(s.last[flow.Outside])); word == "OUT" && ends[0] != "malformed" {
		return ends[1]
	}
	return word
}

// isEnd reports whether a text is an address, with a port or without.
func isEnd(text string, port bool) bool {
	if port {
		_, err := netip.ParseAddrPort(text)
		return err == nil && !strings.Contains(text, "%") && !strings.Contains(text, "::ffff:")
	}
	a, err := netip.ParseAddr(text)
	return err == nil && a.Zone() == "" && !a.Is4In6()
}

// isFlags reports whether a word is TCP flags in their order, or none.
func isFlags(word string) bool {
	return flagsInOrder.MatchString(word)
}

var flagsInOrder = regexp.MustCompile(`^S?F?R?P?A?U?E?C?$`)

func (s *stage) advance(words []string) ([]string, error) { return s.pass(words, s.nat.Advance) }

func (s *stage) steps(words []string) ([]string, error) {
	return s.pass(words, func(now flow.Time, emit flow.Sink) {
		for !s.nat.AdvanceStep(now, emit) {
		}
	})
}

func (s *stage) wait(words []string) ([]string, error) {
	if len(words) != 1 {
		return nil, errUsage
	}
	d, err := time.ParseDuration(words[0])
	if err != nil || d < 0 {
		return nil, fmt.Errorf("%s: no duration: %w", words[0], errUsage)
	}
	s.now = s.now.Add(d)
	return nil, nil
}

// pass lets time pass, noticed by advance.
func (s *stage) pass(words []string, advance func(flow.Time, flow.Sink)) ([]string, error) {
	if _, err := s.wait(words); err != nil {
		return nil, err
	}
	ended := s.see.Stats().SessionsEnded
	var emitted []string
	advance(s.now, func(e flow.Emission) {
		s.last[e.To] = slices.Clone(e.Packet)
		emitted = append(emitted, fmt.Sprintf("  %v %v %s", e.At, e.To, pkttest.String(e.Packet)))
	})
	return append([]string{fmt.Sprintf("now %v ended=%d", s.now, s.see.Stats().SessionsEnded-ended)}, emitted...), nil
}

// round is where repeat puts the number of the round.
var round = regexp.MustCompile(`\{[0-9]*\}`)

// most is how often repeat does something at most.
const most = 100_000

func (s *stage) repeat(words []string) (lines []string, err error) {
	if len(words) < 2 {
		return nil, errUsage
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 0 || n > most || words[1] == "repeat" {
		return nil, fmt.Errorf("%s: no number of 0..%d, or of rounds of rounds: %w", words[0], most, errUsage)
	}
	counts := map[string]int{}
	for i := range n {
		command := round.ReplaceAllStringFunc(strings.Join(words[1:], " "), func(at string) string {
			first, _ := strconv.Atoi(at[1 : len(at)-1])
			return strconv.Itoa(first + i)
		})
		got, err := s.do(strings.Fields(command))
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i, err)
		}
		for _, line := range got {
			what := line
			if action, rest, _ := strings.Cut(line, " "); action != "drop" {
				what = action
				if strings.HasSuffix(rest, " new") {
					what += " new"
				}
			}
			if counts[what]++; counts[what] == 1 {
				lines = append(lines, what)
			}
		}
	}
	for i, what := range lines {
		lines[i] = fmt.Sprintf("%d x %s", counts[what], what)
	}
	return lines, nil
}
