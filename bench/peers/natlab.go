package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"tailscale.com/tstest/natlab"
)

// lab calls the NAT of tailscale's natlab as its machine does for a forwarded packet.
type lab struct {
	nat      *natlab.SNAT44
	lan, wan *natlab.Interface
	buf      gopacket.SerializeBuffer
}

func openNatlab(int) (translator, error) {
	internet := natlab.NewInternet()
	local := &natlab.Network{Name: "lan", Prefix4: netip.MustParsePrefix("10.1.0.0/16")}
	m := &natlab.Machine{Name: "nat"}
	t := &lab{lan: m.Attach("lan", local), wan: m.Attach("wan", internet), buf: gopacket.NewSerializeBuffer()}
	t.nat = &natlab.SNAT44{Machine: m, ExternalInterface: t.wan, Type: natlab.AddressAndPortDependentNAT, MappingTimeout: time.Hour}
	return t, nil
}

// translate makes of a packet what natlab calls one, and translates that.
func (t *lab) translate(p []byte) *natlab.Packet {
	return t.nat.HandleForward(&natlab.Packet{
		Src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:])), binary.BigEndian.Uint16(p[20:])),
		Dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:])), binary.BigEndian.Uint16(p[22:])),
		Payload: p[28:],
	}, t.lan, t.wan)
}

var errLost = errors.New("did not come out")

func (t *lab) send(pkts [][]byte) error {
	for _, p := range pkts {
		if t.translate(p) == nil {
			return errLost
		}
	}
	return nil
}

func (t *lab) one(p []byte) ([]byte, error) {
	out := t.translate(p)
	if out == nil {
		return nil, errLost
	}
	return datagram(t.buf, out.Src, out.Dst, out.Payload)
}

func (t *lab) finish() error { return nil }
func (t *lab) bytes() int    { return 0 }
func (t *lab) close()        {}
