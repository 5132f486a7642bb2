// Package sentence reads packets that are written in a line:
//
//	tcp 10.244.0.5:41000 > 203.0.113.80:443
//	udp pod/web-0 > service/dns
//	tcp [fd12:3456:789a::2]:41000 > [2001:db8::1]:443 ack
//	icmp node/aks-nodepool1-vmss000000 > 203.0.113.80
//	tcp 203.0.113.9:1000 > lb/shop rst ttl 3
//
// The grammar, words being separated by spaces:
//
//	packet   = protocol end ">" end { option }
//	protocol = "tcp" | "udp" | "icmp"
//	end      = ( address | kind "/" name ) [ ":" port ]     IPv6 addresses with a port in brackets
//	kind     = "pod" | "node" | "public"                    the latter the public address of a node
//	         | "service" | "lb"                             the cluster IP, and the load balancer's address
//	option   = "syn" | "ack" | "synack" | "fin" | "rst"     of tcp; syn if there is none
//	         | "reply" | "id" number                        of icmp; a request and 1 if there is none
//	         | "ttl" number | "length" number               1..255, 64 if not given; bytes of payload, 0..1400
//
// Without a port the sender has 40000, and a Service with one port has that. icmp has no ports; it is
// ICMPv6 between IPv6 addresses. A name of two families is of that of the other end, or IPv4.
//
// What is wrong is an *[Error] that points at the word. Everything is a pure function of text and names.
package sentence

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// Names finds what packets call by name.
type Names interface {
	// Addrs returns the addresses of a thing, at most one per family, at least one, and its
	// port, 0 if it has none of its own.
	Addrs(kind, name string) ([]netip.Addr, uint16, error)
}

// AnyName has an address of either family for every name, and a port: with it packets are
// read for their grammar alone.
var AnyName Names = anyName{}

type anyName struct{}

// Addrs returns the unspecified addresses, and port 1.
func (anyName) Addrs(kind, name string) ([]netip.Addr, uint16, error) {
	if !slices.Contains(kinds, kind) {
		return nil, 0, ErrKind
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, 1, nil
}

// kinds are what an end may be called by name.
var kinds = []string{"pod", "node", "public", "service", "lb"}

// namedEnds are the forms of an end that has a name.
const namedEnds = "pod/NAME, node/NAME, public/NAME, service/NAME or lb/NAME"

// ErrKind is what Names say of a kind that they do not know.
var ErrKind = errors.New("must be " + namedEnds)

// Packet is a packet that was read.
type Packet struct {
	Bytes    []byte // starts at the IP header
	Protocol string // tcp, udp or icmp
	Src, Dst netip.AddrPort
}

// String returns the packet with addresses in the place of names.
func (p *Packet) String() string {
	if p.Protocol == "icmp" {
		return fmt.Sprintf("%s %v > %v", p.Protocol, p.Src.Addr(), p.Dst.Addr())
	}
	return fmt.Sprintf("%s %v > %v", p.Protocol, p.Src, p.Dst)
}

// Error is what is wrong with a packet, and at which word.
type Error struct {
	Text   string // of the packet
	Offset int    // of the word, in bytes
	Len    int    // of the word; 0 if one is missing
	Rule   string
}

// Error returns three lines: the rule, the packet, and a mark below the word.
func (e *Error) Error() string {
	word := ""
	if e.Len > 0 {
		word = fmt.Sprintf("%q: ", e.Text[e.Offset:e.Offset+e.Len])
	}
	mark := strings.Repeat(" ", utf8.RuneCountInString(e.Text[:e.Offset])) + strings.Repeat("^", max(1, utf8.RuneCountInString(e.Text[e.Offset:e.Offset+e.Len])))
	return fmt.Sprintf("%s%s\n  %s\n  %s", word, e.Rule, e.Text, mark)
}

// The port of a sender that has none, and bounds.
const (
	defaultPort = 40000
	maxText     = 1000 // bytes
	maxLength   = 1400
)

// word is a word of the text.
type word struct {
	text   string
	offset int
}

// reader reads one packet.
type reader struct {
	text  string
	words []word
	names Names
}

// Parse reads a packet.
func Parse(text string, names Names) (*Packet, error) {
	if len(text) > maxText {
		return nil, &Error{Text: text[:0], Rule: fmt.Sprintf("a packet has at most %d bytes of text", maxText)}
	}
	r := reader{text: text, names: names}
	for at := 0; at < len(text); {
		rest := text[at:]
		if blank := len(rest) - len(strings.TrimLeft(rest, " \t")); blank > 0 {
			at += blank
			continue
		}
		n := strings.IndexAny(rest, " \t")
		if n < 0 {
			n = len(rest)
		}
		r.words = append(r.words, word{rest[:n], at})
		at += n
	}
	return r.packet()
}

// bad returns an error at a word.
func (r *reader) bad(w word, rule string, args ...any) error {
	return &Error{r.text, w.offset, len(w.text), fmt.Sprintf(rule, args...)}
}

// next returns the next word; of a packet that ends, one that is empty.
func (r *reader) next() word {
	if len(r.words) == 0 {
		return word{"", len(r.text)}
	}
	w := r.words[0]
	r.words = r.words[1:]
	return w
}

// packet reads all of it.
func (r *reader) packet() (*Packet, error) {
	protocol := r.next()
	switch protocol.text {
	case "tcp", "udp", "icmp":
	default:
		return nil, r.bad(protocol, "a packet begins with tcp, udp or icmp")
	}
	ports := protocol.text != "icmp"
	src, err := r.end(r.next(), ports)
	if err != nil {
		return nil, err
	}
	if arrow := r.next(); arrow.text != ">" {
		return nil, r.bad(arrow, "the ends have > between them")
	}
	dst, err := r.end(r.next(), ports)
	if err != nil {
		return nil, err
	}
	if ports && src.port == 0 {
		src.port = defaultPort
	}
	if ports && dst.port == 0 {
		return nil, r.bad(dst.word, "needs a port, as in :443")
	}
	a, b, err := r.family(src, dst)
	if err != nil {
		return nil, err
	}
	p := &Packet{Protocol: protocol.text, Src: netip.AddrPortFrom(a, src.port), Dst: netip.AddrPortFrom(b, dst.port)}
	return p, r.build(p)
}

// end is an end of a packet.
type end struct {
	word  word
	addrs []netip.Addr
	port  uint16 // 0 if there is none
}

// end reads an end.
func (r *reader) end(w word, ports bool) (end, error) {
	e := end{word: w}
	if w.text == "" {
		return e, r.bad(w, "an address or a name is missing")
	}
	kind, name, named := strings.Cut(w.text, "/")
	if !named {
		if a, err := netip.ParseAddr(w.text); err == nil {
			e.addrs = []netip.Addr{a}
		} else if p, err := netip.ParseAddrPort(w.text); err != nil {
			return e, r.bad(w, "must be an address such as 10.244.0.5:41000 or [2001:db8::1]:443, or "+namedEnds)
		} else if e.addrs, e.port = []netip.Addr{p.Addr()}, p.Port(); e.port == 0 {
			return e, r.bad(w, "the port must be 1..65535")
		}
	} else {
		text := name
		name, digits, withPort := strings.Cut(text, ":")
		if withPort {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil || n == 0 {
				return e, r.bad(w, "the port must be 1..65535")
			}
			e.port = uint16(n)
		}
		addrs, port, err := r.names.Addrs(kind, name)
		if err != nil {
			return e, r.bad(w, "%v", err)
		}
		if e.addrs = addrs; e.port == 0 && ports {
			e.port = port
		}
	}
	for _, a := range e.addrs {
		if a.Is4In6() || a.Zone() != "" {
			return e, r.bad(w, "must be a plain address, without zone")
		}
	}
	if e.port != 0 && !ports {
		return e, r.bad(w, "icmp has no ports")
	}
	return e, nil
}

// family chooses addresses of one family.
func (r *reader) family(src, dst end) (a, b netip.Addr, err error) {
	for _, a := range src.addrs {
		for _, b := range dst.addrs {
			if a.Is4() == b.Is4() {
				return a, b, nil
			}
		}
	}
	return a, b, r.bad(dst.word, "is of another family than %s", src.word.text)
}

// build reads the options and makes the bytes.
func (r *reader) build(p *Packet) error {
	fields, reply, id, length := []pkttest.Field(nil), false, 1, 0
	flags := map[string][]pkttest.Field{
		"syn": {pkttest.SYN}, "ack": {pkttest.ACK}, "synack": {pkttest.SYN, pkttest.ACK}, "fin": {pkttest.FIN, pkttest.ACK}, "rst": {pkttest.RST},
	}
	chosen := "syn"
	seen := make(map[string]bool)
	for len(r.words) > 0 {
		w := r.next()
		kind := w.text
		if flags[kind] != nil {
			kind = "flags"
		}
		if seen[kind] {
			return r.bad(w, "stands twice")
		}
		seen[kind] = true
		var err error
		switch {
		case kind == "flags" && p.Protocol == "tcp":
			chosen = w.text
		case kind == "reply" && p.Protocol == "icmp":
			reply = true
		case kind == "id" && p.Protocol == "icmp":
			id, err = r.number(0, 65535)
		case kind == "ttl":
			var ttl int
			ttl, err = r.number(1, 255)
			fields = append(fields, pkttest.TTL(uint8(ttl)))
		case kind == "length":
			length, err = r.number(0, maxLength)
		default:
			return r.bad(w, "is no option of a %s packet: %s", p.Protocol, options[p.Protocol])
		}
		if err != nil {
			return err
		}
	}
	payload := strings.Repeat("x", length)
	switch p.Protocol {
	case "tcp":
		p.Bytes = pkttest.TCP(p.Src.String(), p.Dst.String(), append(append(fields, flags[chosen]...), pkttest.Payload(payload))...)
	case "udp":
		p.Bytes = pkttest.UDP(p.Src.String(), p.Dst.String(), payload, fields...)
	default:
		echo := pkttest.ICMPEcho
		if reply {
			echo = pkttest.ICMPEchoReply
		}
		p.Bytes = echo(p.Src.Addr().String(), p.Dst.Addr().String(), uint16(id), 1, append(fields, pkttest.Payload(payload))...)
	}
	return nil
}

// options are those of each protocol.
var options = map[string]string{
	"tcp":  "syn, ack, synack, fin, rst, ttl NUMBER or length NUMBER",
	"udp":  "ttl NUMBER or length NUMBER",
	"icmp": "reply, id NUMBER, ttl NUMBER or length NUMBER",
}

// number reads the number behind an option.
func (r *reader) number(least, most int) (int, error) {
	w := r.next()
	n, err := strconv.Atoi(w.text)
	if err != nil || n < least || n > most {
		return 0, r.bad(w, "must be a number, %d..%d", least, most)
	}
	return n, nil
}
