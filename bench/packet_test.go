package bench

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// template is a TCP segment that gopacket has built, from and to the unspecified address and port 0,
// so that the sums of its checksums lack only what a flow puts in.
type template struct {
	bytes   []byte
	ip, tcp uint64 // sums that the checksums stand for; ip of IPv4
}

// templates are the segments by family and flags.
var templates = func() (all [2][32]template) {
	for flags := range uint8(len(all[0])) {
		all[0][flags] = newTemplate("0.0.0.0:0", flags, 64-40)
		all[1][flags] = newTemplate("[::]:0", flags, 64-60)
	}
	return all
}()

func newTemplate(socket string, flags uint8, data int) (t template) {
	t.bytes = pkttest.TCP(socket, socket, segment(flags, data)...)
	if t.bytes[0]>>4 == 4 {
		t.ip, t.tcp = uint64(^wire.IPv4(t.bytes).Checksum()), uint64(^wire.TCP(t.bytes[20:]).Checksum())
	} else {
		t.tcp = uint64(^wire.TCP(t.bytes[40:]).Checksum())
	}
	return t
}

// segment is what a segment with flags has, besides sockets.
func segment(flags uint8, data int) (fields []pkttest.Field) {
	for i, flag := range []pkttest.Field{pkttest.FIN, pkttest.SYN, pkttest.RST, pkttest.PSH, pkttest.ACK} {
		if flags>>i&1 != 0 {
			fields = append(fields, flag)
		}
	}
	if flags&flow.ACK != 0 {
		fields = append(fields, pkttest.Ack(1001))
	}
	if flags&flow.SYN != 0 { // which has no data
		return append(fields, pkttest.Seq(1000))
	}
	return append(fields, pkttest.Seq(1001), pkttest.Payload(string(make([]byte, data))))
}

// tcp writes a segment of 64 bytes, or of headers alone if it is a SYN, into buf: the template with
// the sockets of a flow.
func tcp(buf []byte, src, dst netip.AddrPort, flags uint8) []byte {
	is6 := 0
	if src.Addr().Is6() {
		is6 = 1
	}
	t := &templates[is6][flags&31]
	b := buf[:64][:copy(buf[:64], t.bytes)]
	l4, sum := 20, uint64(0)
	if is6 == 0 {
		h := wire.IPv4(b)
		h.SetSrc(flow.Addr4(src.Addr()))
		h.SetDst(flow.Addr4(dst.Addr()))
		sum = wire.Sum(b[12:20], 0)
		h.SetChecksum(^wire.Fold(t.ip + uint64(wire.Fold(sum))))
	} else {
		h := wire.IPv6(b)
		h.SetSrc(src.Addr().As16())
		h.SetDst(dst.Addr().As16())
		l4, sum = 40, wire.Sum(b[8:40], 0)
	}
	s := wire.TCP(b[l4:])
	s.SetSrcPort(src.Port())
	s.SetDstPort(dst.Port())
	s.SetChecksum(^wire.Fold(t.tcp + uint64(wire.Fold(sum)) + uint64(src.Port()) + uint64(dst.Port())))
	return b
}

// buffers returns n buffers of 64 bytes.
func buffers(n int) [][]byte {
	all := make([]byte, n*64)
	bufs := make([][]byte, n)
	for i := range bufs {
		bufs[i] = all[i*64 : i*64 : i*64+64]
	}
	return bufs
}
