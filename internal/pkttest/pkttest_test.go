package pkttest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// Packets whose bytes and checksums were worked out elsewhere.
func TestBuildersAgainstKnownBytes(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"RST over IPv4", TCP("198.51.100.7:443", "10.0.0.4:40000", RST, Seq(0x55667788), Window(0)),
			"450000280000400040060692c63364070a00000401bb9c4055667788000000005004000010b80000"},
		{"RST over IPv6", TCP("[2001:db8:5::7]:443", "[fd00::4]:40000", RST, Seq(0x55667788), Window(0)),
			"600000000014064020010db8000500000000000000000007fd00000000000000000000000000000401bb9c405566778800000000500400001a2d0000"},
		{"RST answering a SYN", TCP("198.51.100.7:443", "10.0.0.4:40000", TCPFlags("RA"), Ack(0x11223345), Window(0)),
			"450000280000400040060692c63364070a00000401bb9c40000000001122334550140000992f0000"},
		{"UDP with odd payload", UDP("10.0.0.4:4242", "198.51.100.7:53", "hello")[20:],
			"10920035000d76fc68656c6c6f"},
		{"UDP over IPv6", UDP("[fd00::4]:4242", "[2001:db8:5::7]:53", "hello")[40:],
			"10920035000d807168656c6c6f"},
		{"UDP whose sum is zero", UDP("10.0.0.4:1024", "198.51.100.7:53", "\x95\x5f", Src("203.0.113.10:1024"))[20:],
			"04000035000affff955f"},
		{"UDP without checksum", UDP("10.0.0.4:4242", "198.51.100.7:53", "hello", NoChecksum())[20:],
			"10920035000d000068656c6c6f"},
		{"SYN with MSS and window scale", TCP("10.0.0.4:1", "198.51.100.7:2", SYN, MSS(1460), WScale(7))[40:],
			"020405b403030700"},
		{"TCP sum of zero stays zero", TCP("10.0.0.4:40000", "198.51.100.7:443", SYN, Seq(0x48f0), Window(64240))[20:],
			"9c4001bb000048f0000000005002faf099c70000"},
		{"ICMP echo", ICMPEcho("10.0.0.4", "198.51.100.7", 0x1234, 1, Payload("abcd"))[20:],
			"080021041234000161626364"},
		{"ICMPv6 echo", ICMPEcho("fd00::4", "2001:db8:5::7", 0x1234, 1, Payload("abcd"))[40:],
			"80007df31234000161626364"},
		{"fragmentation needed", ICMP("192.0.2.1", "203.0.113.10", 3, 4, 1400, unhex("450005dc222240003906b3b4cb00710ac6336407040101bb11223344"))[20:],
			"0304ad6100000578450005dc222240003906b3b4cb00710ac6336407040101bb11223344"},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.want, hex.EncodeToString(tc.got)) })
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestEveryFieldIsSetAndChecked(t *testing.T) {
	fields := map[string]Field{
		"v4 TTL": TTL(7), "v4 TOS": TOS(0xb9), "v4 ID": ID(77), "v4 no DF": DF(false), "v4 Src": Src("192.0.2.9:9"), "v4 Dst": Dst("192.0.2.8:8"),
		"v4 IPOptions": IPOptions(7, 7, 4, 0, 0, 0, 0), "v4 Payload": Payload("data"),
		"v6 TTL": TTL(7), "v6 TOS": TOS(0xb9), "v6 FlowLabel": FlowLabel(0xabcde), "v6 Src": Src("[2001:db8::9]:9"),
		"v4 Seq": Seq(5), "v4 Ack": Ack(6), "v4 Window": Window(8), "v4 Urgent": Urgent(9), "v4 MSS": MSS(1400), "v4 WScale": WScale(9),
		"v4 TCPFlags": TCPFlags("SFRPAUEC"), "v6 BadChecksum": BadChecksum(), "v4 BadChecksum": BadChecksum(),
		"v4 SYN": SYN, "v4 FIN": FIN, "v4 RST": RST, "v4 PSH": PSH, "v4 ACK": ACK, "v4 URG": URG, "v4 ECE": ECE, "v4 CWR": CWR,
	}
	for name, f := range fields {
		t.Run(name, func(t *testing.T) {
			src, dst := "10.0.0.4:40000", "198.51.100.7:443"
			if strings.HasPrefix(name, "v6") {
				src, dst = "[fd00::4]:40000", "[2001:db8:5::7]:443"
			}
			require.NotEmpty(t, failures(TCP(src, dst), f), "without the field")
			require.Empty(t, failures(TCP(src, dst, f), f), "with the field")
			if f.name != "bad checksum" {
				Check(t, TCP(src, dst, f), ChecksumsOK())
			}
		})
	}
	require.Empty(t, failures(ICMPEcho("10.0.0.4", "10.0.0.5", 1, 2, EchoID(9), ICMPType(0, 0)), EchoID(9), ICMPType(0, 0), ChecksumsOK()))
	require.NotEmpty(t, failures(ICMPEcho("10.0.0.4", "10.0.0.5", 1, 2), EchoID(9)))
	require.NotEmpty(t, failures(ICMPEcho("10.0.0.4", "10.0.0.5", 1, 2), Seq(0)), "ICMP has no TCP sequence number")
	require.NotEmpty(t, failures(UDP("[fd00::4]:1", "[fd00::5]:2", "", NoChecksum()), ChecksumsOK()), "no checksum over IPv6")
	require.Empty(t, failures(UDP("10.0.0.4:1", "10.0.0.5:2", "", NoChecksum()), ChecksumsOK(), NoChecksum()))
	require.NotEmpty(t, failures(TCP("10.0.0.4:1", "10.0.0.5:2", Patch(8, 1)), ChecksumsOK()), "IPv4 header")
	require.NotEmpty(t, failures([]byte{0x45}, TTL(1)), "malformed")
}

// failures runs Check on a recorder.
func failures(b []byte, fields ...Field) []string {
	r := &recorder{}
	Check(r, b, fields...)
	return r.errors
}

type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestString(t *testing.T) {
	big := UDP("10.0.0.4:4242", "198.51.100.7:53", strings.Repeat("x", 1488))
	for want, b := range map[string][]byte{
		"TCP 10.0.0.4:40000 > 198.51.100.7:443 S seq=1 len=0":                     TCP("10.0.0.4:40000", "198.51.100.7:443", SYN, Seq(1)),
		"TCP [fd00::4]:40000 > [2001:db8:5::7]:443 PA seq=1 ack=2 len=3":          TCP("[fd00::4]:40000", "[2001:db8:5::7]:443", PSH, ACK, Seq(1), Ack(2), Payload("abc")),
		"TCP 10.0.0.4:1 > 10.0.0.5:2 none seq=0 len=0":                            TCP("10.0.0.4:1", "10.0.0.5:2"),
		"UDP [fd00::4]:4242 > [2001:db8:5::7]:53 len=5":                           UDP("[fd00::4]:4242", "[2001:db8:5::7]:53", "hello", Extension(60, 1, 4, 0, 0, 0, 0)),
		"UDP 10.0.0.4 > 198.51.100.7 frag id=7 off=1480 len=16":                   Fragments(big, 1480, 7)[1],
		"UDP 10.0.0.4 > 198.51.100.7 frag id=7 off=0 more len=1480":               Fragments(big, 1480, 7)[0],
		"ICMP 10.0.0.4 > 198.51.100.7 type=8 code=0 id=1 seq=2 len=0":             ICMPEcho("10.0.0.4", "198.51.100.7", 1, 2),
		"ICMPv6 fd00::4 > fd00::5 type=129 code=0 id=1 seq=2 len=0":               ICMPEchoReply("fd00::4", "fd00::5", 1, 2),
		"ICMP 10.0.0.4 > 198.51.100.7 type=3 code=1 len=3":                        ICMP("10.0.0.4", "198.51.100.7", 3, 1, 0, []byte("abc")),
		"proto-47 10.0.0.4 > 198.51.100.7 len=4":                                  IP("10.0.0.4", "198.51.100.7", 47, []byte("gre!")),
		"malformed (Invalid ip4 header. Length 1 less than 20): 45":               {0x45},
		"malformed (empty packet): ":                                              nil,
		"malformed (IPv6 packet cut to 2 bytes): 60 00":                           {0x60, 0},
		"malformed (ICMP message of 1 bytes): " + fmt.Sprintf("% x", shortICMP()): shortICMP(),
	} {
		require.Equal(t, want, String(b))
	}
}

func shortICMP() []byte { return IP("10.0.0.4", "10.0.0.5", 1, []byte{8}) }

func TestFragmentsReassemble(t *testing.T) {
	data := strings.Repeat("0123456789abcdef", 96) + "tail"
	for _, b := range [][]byte{
		UDP("10.0.0.4:4242", "198.51.100.7:53", data, IPOptions(7, 7, 4, 0, 0, 0, 0)),
		UDP("[fd00::4]:4242", "[2001:db8:5::7]:53", data),
	} {
		head := 40
		if b[0]>>4 == 4 {
			head = 28
		}
		var whole []byte
		cut := Fragments(b, 512, 0x1234)
		require.Len(t, cut, 4)
		for i, f := range cut {
			Check(t, f, FragmentAt(0x1234, i*512, i < len(cut)-1), ChecksumsOK())
			payload := f[head:]
			if b[0]>>4 == 6 {
				payload = payload[8:]
			}
			whole = append(whole, payload...)
		}
		require.Equal(t, b[head:], whole)
	}
	require.Len(t, Fragments(UDP("10.0.0.4:1", "10.0.0.5:2", "x"), 8, 1), 2)
	require.Len(t, Fragments(UDP("10.0.0.4:1", "10.0.0.5:2", "x"), 16, 1), 1)
	require.NotEmpty(t, failures(UDP("10.0.0.4:1", "10.0.0.5:2", "x"), FragmentAt(0, 0, false)))
	require.Panics(t, func() { Fragments(UDP("10.0.0.4:1", "10.0.0.5:2", "x"), 12, 1) })
}

func TestExtensionsAreWellFormed(t *testing.T) {
	b := UDP("[fd00::4]:4242", "[2001:db8:5::7]:4243", "hello", Extension(60, 1, 4, 0, 0, 0, 0), Extension(0, 5, 2, 0, 0, 1, 0))
	require.Equal(t, []byte{0, 60}, []byte{b[6], b[40]}, "Hop-by-Hop was given last, so it comes first")
	g := gopacket.NewPacket(b, layers.LayerTypeIPv6, gopacket.Default)
	require.Nil(t, g.ErrorLayer())
	require.NotNil(t, g.Layer(layers.LayerTypeIPv6Destination))
	require.NotNil(t, g.Layer(layers.LayerTypeUDP))
	Check(t, b, ChecksumsOK(), Payload("hello"), Src("[fd00::4]:4242"), DF(true))
}

func TestDiff(t *testing.T) {
	require.Empty(t, Diff([]byte("abc"), []byte("abc")))
	require.Equal(t, []int{1, 3, 4}, Diff([]byte("abcde"), []byte("axc")))
	require.Equal(t, []int{0}, Diff(nil, []byte("a")))
}

func TestArgumentsThatMakeNoPacketPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"no endpoint":      func() { TCP("10.0.0.4:x", "10.0.0.5:1") },
		"mixed versions":   func() { TCP("10.0.0.4:1", "[fd00::1]:1") },
		"check only":       func() { TCP("10.0.0.4:1", "10.0.0.5:1", ChecksumsOK()) },
		"foreign field":    func() { UDP("10.0.0.4:1", "10.0.0.5:1", "", Seq(1)) },
		"unsorted flags":   func() { TCP("10.0.0.4:1", "10.0.0.5:1", TCPFlags("AS")) },
		"flow label of v4": func() { TCP("10.0.0.4:1", "10.0.0.5:1", FlowLabel(1)) },
		"identifier of v6": func() { TCP("[fd00::1]:1", "[fd00::2]:1", ID(1)) },
		"malformed to fix": func() { FixChecksums([]byte{0x60}) },
		"malformed to cut": func() { Fragments([]byte{0x60}, 8, 1) },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, f) })
	}
}
