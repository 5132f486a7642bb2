package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/pion/logging"
	"github.com/pion/transport/v3"
	"github.com/pion/transport/v3/vnet"
)

// pion is a host behind a router with NAT, and a server outside. vnet offers its NAT
// through sockets only.
type pion struct {
	wan    *vnet.Router
	conns  []transport.UDPConn // of the flows, by number
	server transport.UDPConn
	read   []byte
	buf    gopacket.SerializeBuffer
}

func openPion(flows int) (translator, error) {
	logs := logging.NewDefaultLoggerFactory()
	wan, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "198.18.0.0/16", LoggerFactory: logs})
	if err != nil {
		return nil, err
	}
	lan, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.1.0.0/16", StaticIPs: []string{"198.18.200.1"}, LoggerFactory: logs,
		NATType: &vnet.NATType{
			MappingBehavior: vnet.EndpointAddrPortDependent, FilteringBehavior: vnet.EndpointAddrPortDependent, MappingLifeTime: time.Hour,
		}})
	if err != nil {
		return nil, err
	}
	var sources []string
	for i := 0; i < flows; i += flowsPerSource {
		sources = append(sources, inside(i).Addr().String())
	}
	host, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: sources})
	if err != nil {
		return nil, err
	}
	outside, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{remote(0).Addr().String()}})
	if err != nil {
		return nil, err
	}
	for _, step := range []error{wan.AddNet(outside), lan.AddNet(host), wan.AddRouter(lan), wan.Start()} {
		if step != nil {
			return nil, step
		}
	}
	t := &pion{wan: wan, read: make([]byte, size), buf: gopacket.NewSerializeBuffer()}
	if t.server, err = outside.ListenUDP("udp4", net.UDPAddrFromAddrPort(remote(0))); err != nil {
		return nil, err
	}
	for i := range flows {
		c, err := host.ListenUDP("udp4", net.UDPAddrFromAddrPort(inside(i)))
		if err != nil {
			return nil, err
		}
		t.conns = append(t.conns, c)
	}
	return t, nil
}

// write sends what a packet holds on the socket of its flow.
func (t *pion) write(p []byte) error {
	i := binary.BigEndian.Uint32(p[28:])
	to := &net.UDPAddr{IP: p[16:20:20], Port: int(binary.BigEndian.Uint16(p[22:]))}
	_, err := t.conns[i].WriteTo(p[28:], to)
	return err
}

func (t *pion) send(pkts [][]byte) error {
	for _, p := range pkts {
		if err := t.write(p); err != nil {
			return err
		}
	}
	for range pkts {
		if _, _, err := t.server.ReadFrom(t.read); err != nil {
			return err
		}
	}
	return nil
}

func (t *pion) one(p []byte) ([]byte, error) {
	if err := t.write(p); err != nil {
		return nil, err
	}
	n, from, err := t.server.ReadFrom(t.read)
	if err != nil {
		return nil, err
	}
	src, ok := from.(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("%v is no UDP address", from)
	}
	a := src.AddrPort()
	return datagram(t.buf, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), remote(0), t.read[:n])
}

func (t *pion) finish() error { return nil }
func (t *pion) bytes() int    { return 0 }

func (t *pion) close() {
	for _, c := range t.conns {
		_ = c.Close()
	}
	_ = t.server.Close()
	_ = t.wan.Stop()
}
