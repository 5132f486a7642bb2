package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// natplane is ours: every inside address is an instance with a block of 1,024 ports.
type natplane struct {
	nat      *snat.NAT
	verdicts [batch]flow.Verdict
}

func openNatplane(flows int) (translator, error) {
	cfg := snat.Config{Policy: snat.Policy{IdleTimeout: time.Hour}, Dataplane: snat.Dataplane{HashKey: 1}}
	for n := range (flows + flowsPerSource - 1) / flowsPerSource {
		cfg.Instances = append(cfg.Instances, snat.Instance{
			Name:  fmt.Sprint("vm", n),
			Addrs: []netip.Addr{inside(n * flowsPerSource).Addr()},
			Ports: []snat.PortRange{{Frontend: frontend(n / 62), First: uint16(1024 + n%62*flowsPerSource), Count: flowsPerSource}},
		})
	}
	nat, err := snat.New(cfg)
	if err != nil {
		return nil, err
	}
	return &natplane{nat: nat}, nil
}

// frontend is the n-th outside address of translators that need several.
func frontend(n int) netip.Addr { return netip.AddrFrom4([4]byte{20, 50, byte(n >> 8), byte(n)}) }

func (t *natplane) send(pkts [][]byte) error {
	t.nat.OutboundBatch(0, pkts, t.verdicts[:len(pkts)])
	for i, v := range t.verdicts[:len(pkts)] {
		if v.Action != flow.Forward {
			return fmt.Errorf("packet %d of a batch: %v", i, v.Reason)
		}
	}
	return nil
}

func (t *natplane) finish() error { return nil }

func (t *natplane) one(pkt []byte) ([]byte, error) {
	if v := t.nat.Outbound(0, pkt); v.Action != flow.Forward {
		return nil, fmt.Errorf("%v", v.Reason)
	}
	return pkt, nil
}

func (t *natplane) bytes() int { return t.nat.Stats().Bytes }
func (t *natplane) close()     { t.nat.Close() }

// single is ours, packet by packet.
type single struct{ *natplane }

func openNatplaneSingle(flows int) (translator, error) {
	t, err := openNatplane(flows)
	if err != nil {
		return nil, err
	}
	return single{t.(*natplane)}, nil
}

func (t single) send(pkts [][]byte) error {
	for _, p := range pkts {
		if v := t.nat.Outbound(0, p); v.Action != flow.Forward {
			return fmt.Errorf("%v", v.Reason)
		}
	}
	return nil
}
