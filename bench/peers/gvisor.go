package main

import (
	"fmt"
	"slices"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// gvisor is a stack that forwards between two devices in memory.
type gvisor struct {
	stack   *stack.Stack
	in, out *channel.Endpoint
}

const (
	nicIn  tcpip.NICID = 1
	nicOut tcpip.NICID = 2
)

func openGvisor(nat bool) func(int) (translator, error) {
	return func(int) (translator, error) {
		t := &gvisor{
			stack: stack.New(stack.Options{
				NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
				TransportProtocols: []stack.TransportProtocolFactory{udp.NewProtocol},
			}),
			in:  channel.New(2*batch, 1500, ""),
			out: channel.New(2*batch, 1500, ""),
		}
		if err := t.configure(); err != nil {
			return nil, fmt.Errorf("gvisor: %v", err)
		}
		if nat {
			t.translate()
		}
		return t, nil
	}
}

func (t *gvisor) configure() tcpip.Error {
	for _, nic := range []struct {
		id   tcpip.NICID
		link *channel.Endpoint
		addr [4]byte
	}{{nicIn, t.in, [4]byte{10, 1, 255, 254}}, {nicOut, t.out, frontend(0).As4()}} {
		if err := t.stack.CreateNIC(nic.id, nic.link); err != nil {
			return err
		}
		addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(nic.addr).WithPrefix()}
		if err := t.stack.AddProtocolAddress(nic.id, addr, stack.AddressProperties{}); err != nil {
			return err
		}
	}
	t.stack.SetRouteTable([]tcpip.Route{
		{Destination: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{10}), PrefixLen: 8}.Subnet(), NIC: nicIn},
		{Destination: header.IPv4EmptySubnet, NIC: nicOut},
	})
	return t.stack.SetForwardingDefaultAndAllNICs(ipv4.ProtocolNumber, true)
}

// translate is iptables -t nat -A POSTROUTING -j SNAT --to-source FRONTEND.
func (t *gvisor) translate() {
	tables := t.stack.IPTables()
	nat := tables.GetTable(stack.NATID, false)
	nat.Rules = slices.Clone(nat.Rules) // those of the table in use
	nat.Rules[nat.BuiltinChains[stack.Postrouting]].Target = &stack.SNATTarget{
		Addr: tcpip.AddrFrom4(frontend(0).As4()), NetworkProtocol: header.IPv4ProtocolNumber, ChangeAddress: true, ChangePort: true,
	}
	tables.ReplaceTable(stack.NATID, nat, false)
}

// pass takes one packet through the stack. The caller releases what it returns.
func (t *gvisor) pass(p []byte) (*stack.PacketBuffer, error) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
	t.in.InjectInbound(ipv4.ProtocolNumber, pkt)
	pkt.DecRef()
	if out := t.out.Read(); out != nil {
		return out, nil
	}
	return nil, errLost
}

func (t *gvisor) send(pkts [][]byte) error {
	for _, p := range pkts {
		out, err := t.pass(p)
		if err != nil {
			return err
		}
		out.DecRef()
	}
	return nil
}

func (t *gvisor) one(p []byte) ([]byte, error) {
	out, err := t.pass(p)
	if err != nil {
		return nil, err
	}
	defer out.DecRef()
	return append([]byte(nil), out.ToView().AsSlice()...), nil
}

func (t *gvisor) finish() error { return nil }
func (t *gvisor) bytes() int    { return 0 }

func (t *gvisor) close() {
	t.stack.Close()
	t.stack.Wait()
}
