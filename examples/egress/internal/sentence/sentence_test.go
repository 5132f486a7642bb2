package sentence_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/sentence"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// names are a pod of both families and a Service of IPv4 with a port.
type names struct{}

func (names) Addrs(kind, name string) ([]netip.Addr, uint16, error) {
	switch {
	case kind == "pod" && name == "n/web-0":
		return []netip.Addr{netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("fd00::2")}, 0, nil
	case kind == "service" && name == "dns":
		return []netip.Addr{netip.MustParseAddr("10.0.0.10")}, 53, nil
	}
	return nil, 0, errors.New("there is no such thing")
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"tcp 10.244.0.5:41000 > 203.0.113.80:443":      "IPv4 10.244.0.5:41000 > 203.0.113.80:443 TCP SYN",
		"tcp 10.244.0.5 > 203.0.113.80:443 ack":        "IPv4 10.244.0.5:40000 > 203.0.113.80:443 TCP ACK",
		"udp  pod/n/web-0\t> service/dns length 20":    "IPv4 10.244.0.2:40000 > 10.0.0.10:53 UDP",
		"udp pod/n/web-0:9 > service/dns:54":           "IPv4 10.244.0.2:9 > 10.0.0.10:54 UDP",
		"tcp pod/n/web-0 > [2001:db8::1]:443 synack":   "IPv6 [fd00::2]:40000 > [2001:db8::1]:443 TCP SYN,ACK",
		"icmp pod/n/web-0 > 203.0.113.80 reply id 7":   "IPv4 10.244.0.2 > 203.0.113.80 ICMP 0",
		"icmp 2001:db8::1 > pod/n/web-0 ttl 3":         "IPv6 2001:db8::1 > fd00::2 ICMPv6 128",
		"tcp 1.2.3.4:1 > 5.6.7.8:2 fin ttl 9 length 0": "IPv4 1.2.3.4:1 > 5.6.7.8:2 TCP FIN,ACK",
	} {
		p, err := sentence.Parse(text, names{})
		require.NoError(t, err, text)
		var parsed wire.Packet
		require.Equal(t, wire.OK, wire.Parse(p.Bytes, &parsed), text)
		head := strings.Fields(want)
		assert.Equal(t, strings.Join(head[1:4], " "), strings.SplitN(p.String(), " ", 2)[1], text)
		pkttest.Check(t, p.Bytes, pkttest.ChecksumsOK())
		switch head[4] {
		case "TCP":
			flags := map[string]uint8{"SYN": wire.SYN, "ACK": wire.ACK, "SYN,ACK": wire.SYN | wire.ACK, "FIN,ACK": wire.FIN | wire.ACK}[head[5]]
			assert.Equal(t, flags, uint8(parsed.TCP().Flags()), text)
		case "UDP":
			assert.EqualValues(t, wire.ProtoUDP, parsed.Proto, text)
		default:
			assert.True(t, wire.IsICMP(parsed.Proto), text)
			assert.Equal(t, map[string]byte{"0": 0, "128": 128}[head[5]], parsed.B[parsed.L4], text)
		}
	}
	p, err := sentence.Parse("icmp 2001:db8::1 > pod/n/web-0 ttl 3", names{})
	require.NoError(t, err)
	assert.EqualValues(t, 3, p.Bytes[7])
}

// Errors point at the word.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "a packet begins with tcp, udp or icmp\n  \n  ^",
		"sctp 1.2.3.4 > 5.6.7.8":             "\"sctp\": a packet begins with tcp, udp or icmp\n  sctp 1.2.3.4 > 5.6.7.8\n  ^^^^",
		"tcp":                                "an address or a name is missing\n  tcp\n     ^",
		"tcp 1.2.3.4:1 5.6.7.8:2":            "\"5.6.7.8:2\": the ends have > between them\n  tcp 1.2.3.4:1 5.6.7.8:2\n                ^^^^^^^^^",
		"tcp 1.2.3.4:1 >":                    "an address or a name is missing\n  tcp 1.2.3.4:1 >\n                 ^",
		"tcp 1.2.3:1 > 5.6.7.8:2":            "\"1.2.3:1\": must be an address such as",
		"tcp 1.2.3.4:0 > 5.6.7.8:2":          "\"1.2.3.4:0\": the port must be 1..65535",
		"tcp 1.2.3.4:1 > 5.6.7.8":            "\"5.6.7.8\": needs a port, as in :443",
		"tcp 1.2.3.4:1 > pod/n/web-0:x":      "\"pod/n/web-0:x\": the port must be 1..65535",
		"tcp 1.2.3.4:1 > pod/x:1":            "\"pod/x:1\": there is no such thing",
		"tcp 1.2.3.4:1 > [::1]:2":            "\"[::1]:2\": is of another family than 1.2.3.4:1",
		"tcp 1.2.3.4:1 > [::ffff:1.2.3.4]:2": "\"[::ffff:1.2.3.4]:2\": must be a plain address, without zone",
		"icmp 1.2.3.4:1 > 5.6.7.8":           "\"1.2.3.4:1\": icmp has no ports",
		"udp 1.2.3.4:1 > 5.6.7.8:2 syn":      "\"syn\": is no option of a udp packet: ttl NUMBER or length NUMBER",
		"tcp 1.2.3.4:1 > 5.6.7.8:2 syn fin":  "\"fin\": stands twice",
		"tcp 1.2.3.4:1 > 5.6.7.8:2 ttl":      "must be a number, 1..255\n  tcp 1.2.3.4:1 > 5.6.7.8:2 ttl\n                               ^",
		"tcp 1.2.3.4:1 > 5.6.7.8:2 ttl 0":    "\"0\": must be a number, 1..255",
		"tcp é > 5.6.7.8:2":                  "\"é\": must be an address such as 10.244.0.5:41000 or [2001:db8::1]:443, or pod/NAME, node/NAME, public/NAME, service/NAME or lb/NAME\n  tcp é > 5.6.7.8:2\n      ^",
		strings.Repeat("x", 1001):            "a packet has at most 1000 bytes of text",
	} {
		_, err := sentence.Parse(text, names{})
		var e *sentence.Error
		require.ErrorAs(t, err, &e, text)
		if got := err.Error(); !strings.HasPrefix(got, want) {
			assert.Equal(t, want, got)
		}
	}
	_, err := sentence.Parse("tcp pos/x > lb/y", sentence.AnyName)
	assert.ErrorContains(t, err, `"pos/x": must be pod/NAME`)
	_, err = sentence.Parse("tcp pod/x > lb/y", sentence.AnyName)
	assert.NoError(t, err)
}

// Whatever is written, there is a sound packet or an error that points into the text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"tcp 10.244.0.5:41000 > 203.0.113.80:443", "icmp pod/n/web-0 > 2001:db8::1 reply id 9", "udp pod/n/web-0 > service/dns ttl 1 length 9", "tcp é > "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := sentence.Parse(text, names{})
		if err != nil {
			var e *sentence.Error
			require.ErrorAs(t, err, &e)
			require.LessOrEqual(t, e.Offset+e.Len, len(e.Text))
			require.NotEmpty(t, err.Error())
			return
		}
		var parsed wire.Packet
		require.Equal(t, wire.OK, wire.Parse(p.Bytes, &parsed), "%q", text)
	})
}
