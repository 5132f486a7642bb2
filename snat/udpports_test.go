package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// rfcPolicy is the timers of the RFCs, and their minimums in force.
func rfcPolicy() snat.Policy {
	p := snat.Policy{EnforceMinimums: true, Timeouts: flow.RFCTimeouts()}
	p.Timeouts.UDPHeld = 0
	return p
}

// underRFC is oneVM with the timers of the RFCs.
func underRFC(ports int) snat.Config {
	c := oneVM(ports)
	c.Policy = rfcPolicy()
	return c
}

// lives demands that a session made at time 0 is there until d, and then not.
func lives(t *testing.T, c snat.Config, d time.Duration, open func(b *bed)) {
	t.Helper()
	b := newBed(t, c)
	open(b)
	b.at(d - time.Nanosecond)
	require.Equal(t, 1, b.Stats().SessionsActive, "before %v", d)
	b.at(d)
	require.Equal(t, 0, b.Stats().SessionsActive, "at %v", d)
}

func TestNAT_U5_TwoMinutesAtLeast(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		t.Run("rfc", func(t *testing.T) {
			c := underRFC(8)
			c.Timeouts.UDP, c.Timeouts.UDPReplied = 119*time.Second, 119*time.Second
			err := c.Validate()
			assert.ErrorIs(t, err, flow.ErrOutOfRange)
			assert.ErrorContains(t, err, "Timeouts.UDP 1m59s: out of range: at least 2m0s with EnforceMinimums")
			assert.ErrorContains(t, err, "Timeouts.UDPReplied 1m59s")
			c.Timeouts.UDP, c.Timeouts.UDPReplied = 120*time.Second, 120*time.Second
			b := newBed(t, c)
			inside, server := socket(r.a, 5000), socket(r.s, 53)
			outside := b.opens("udp", inside, server)
			b.at(119900 * time.Millisecond)
			assert.Equal(t, inside, destination(b.in(pkttest.UDP(server, outside, "late"))))
		})
		t.Run("azure", func(t *testing.T) { // has more by default, but lets its user have less
			c := oneVM(8)
			c.Timeouts.UDP = 119 * time.Second
			lives(t, c, 119*time.Second, func(b *bed) { b.opens("udp", socket(r.a, 5000), socket(r.s, 53)) })
		})
	})
	// An instance's own policy, and TCP, have minimums too.
	c := oneVM(8)
	c.Instances[0].Policy = &snat.Policy{EnforceMinimums: true}
	err := c.Validate()
	assert.ErrorContains(t, err, "Instances[0].Policy.Timeouts.TCPEstablished 4m0s: out of range: at least 2h4m0s")
	assert.ErrorContains(t, err, "Instances[0].Policy.Timeouts.TCPHalfClosed 4m0s")
	assert.NotContains(t, err.Error(), "UDP")
}

func TestNAT_U5a_ShorterForWellKnownPorts(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := underRFC(8)
		c.UDPPorts = snat.PortTimeouts{{Port: 53, Timeout: 10 * time.Second}, {Port: 123, Timeout: 5 * time.Second}}
		inside := socket(r.a, 5000)
		for port, d := range map[int]time.Duration{53: 10 * time.Second, 123: 5 * time.Second, 54: 300 * time.Second} {
			lives(t, c, d, func(b *bed) { b.opens("udp", inside, socket(r.s, port)) })
			// A reply restarts it, but does not make it another one.
			lives(t, c, 4*time.Second+d, func(b *bed) {
				outside := b.opens("udp", inside, socket(r.s, port))
				b.at(4 * time.Second)
				require.Equal(t, inside, destination(b.in(pkttest.UDP(socket(r.s, port), outside, "x"))))
			})
		}
		// TCP is not concerned; and both flows of a socket keep its port.
		b := newBed(t, c)
		b.dials(inside, socket(r.s, 53))
		outside := b.opens("udp", inside, socket(r.s, 53))
		require.Equal(t, outside, b.opens("udp", inside, socket(r.s, 54)))
		b.at(119 * time.Second)
		assert.Len(t, sessions(b), 2)
		assert.Equal(t, uint64(1), b.Stats().Expired[flow.FirstCustomClass])
		assert.Equal(t, outside, b.opens("udp", inside, socket(r.s, 53)), "the mapping was there")
	})
	t.Run("bad rows", func(t *testing.T) {
		c := oneVM(8)
		c.UDPPorts = snat.PortTimeouts{{Port: 1024, Timeout: time.Second}, {Timeout: time.Second}, {Port: 53}, {Port: 53, Timeout: time.Microsecond}}
		err := c.Validate()
		assert.ErrorContains(t, err, "UDPPorts[0].Port 1024: out of range: 1..1023")
		assert.ErrorContains(t, err, "UDPPorts[1].Port 0: out of range: 1..1023")
		assert.ErrorContains(t, err, "UDPPorts[2].Timeout 0s: "+flow.ErrTimeout.Error())
		assert.ErrorContains(t, err, "UDPPorts[3].Port 53: ports are granted already: UDPPorts[2] has it")
		assert.ErrorContains(t, err, "UDPPorts[3].Timeout 1µs")
	})
	t.Run("a change applies to running sessions", func(t *testing.T) {
		for _, own := range []bool{false, true} { // with a policy of the instance's own it changes its shard
			c := underRFC(8)
			c.Shards = 2
			rows := func(rows snat.PortTimeouts) {
				if c.UDPPorts = rows; own {
					p := rfcPolicy()
					p.UDPPorts, c.UDPPorts = rows, snat.PortTimeouts{}
					c.Instances[0].Policy = &p
				}
			}
			b := newBed(t, c)
			b.opens("udp", vmA+":5000", serverA+":53")
			b.opens("udp", vmA+":5000", serverA+":123")
			rows(snat.PortTimeouts{{}, {Port: 53, Timeout: 10 * time.Second}})
			b.becomes(c)
			b.at(9 * time.Second)
			require.Len(t, sessions(b), 2)
			rows(snat.PortTimeouts{{Port: 123, Timeout: 20 * time.Second}})
			b.becomes(c)
			b.at(19 * time.Second)
			require.Len(t, sessions(b), 2)
			b.at(20 * time.Second)
			require.Len(t, sessions(b), 1, "port 53 has the timeout of others again")
			b.at(300 * time.Second)
			require.Empty(t, sessions(b))
		}
	})
	t.Run("per direction, held ports", func(t *testing.T) { // with all else that UDP sessions may have
		c := gateway(1024, 2)
		c.UDPRefresh = snat.RefreshPerDirection
		c.UDPPorts = snat.PortTimeouts{{Port: 53, Timeout: 10 * time.Second}}
		b := newBed(t, c)
		outside := b.opens("udp", gatewayA+":5000", serverA+":53")
		b.at(6 * time.Second)
		b.in(pkttest.UDP(serverA+":53", outside, "x"))
		b.at(10*time.Second - 1)
		require.Equal(t, 1, b.Stats().SessionsActive)
		b.at(10 * time.Second)
		require.Equal(t, 0, b.Stats().SessionsActive)
		require.Equal(t, 1, b.SharedPorts()[1].Held())
	})
}

func TestNAT_U5b_TimerIsConfigurable(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := underRFC(8)
		c.Timeouts.UDP, c.Timeouts.UDPReplied = 400*time.Second, 500*time.Second
		lives(t, c, 400*time.Second, func(b *bed) { b.opens("udp", socket(r.a, 5000), socket(r.s, 53)) })
		lives(t, c, 500*time.Second, func(b *bed) {
			outside := b.opens("udp", socket(r.a, 5000), socket(r.s, 53))
			b.in(pkttest.UDP(socket(r.s, 53), outside, "x"))
		})
	})
}

func TestNAT_U5c_DefaultTimer(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		open := func(b *bed) { b.opens("udp", socket(r.a, 5000), socket(r.s, 53)) }
		t.Run("rfc", func(t *testing.T) { lives(t, underRFC(8), 300*time.Second, open) })
		t.Run("azure", func(t *testing.T) { lives(t, oneVM(8), 240*time.Second, open) })
	})
}

// Application-level gateways are off, because there are none: no payload changes,
// whatever it looks like.
func TestNAT_U10_PayloadsAreNotRead(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for name, app := range map[string]struct {
			port    int
			payload string
		}{
			"SIP":   {5060, "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP " + socket(r.a, 5000) + "\r\nContact: <sip:alice@" + r.a + ">\r\n"},
			"FTP":   {21, "PORT 10,0,0,4,19,136\r\n"},
			"TFTP":  {69, "\x00\x01" + r.a + "\x00octet\x00"},
			"H.323": {1719, "\x0e\x80\x05\x28\x06\x00\x08\x91\x4a\x00\x04\x01\x00\x0a\x00\x00\x04\x13\x88"},
		} {
			b := newBed(t, oneVM(8))
			inside, server := socket(r.a, 5000), socket(r.s, app.port)
			out := pkttest.UDP(inside, server, app.payload)
			outside := source(b.out(out))
			pkttest.Check(t, out, pkttest.Src(outside), pkttest.Payload(app.payload), pkttest.ChecksumsOK())
			in := pkttest.UDP(server, outside, app.payload)
			b.in(in)
			pkttest.Check(t, in, pkttest.Dst(inside), pkttest.Payload(app.payload), pkttest.ChecksumsOK())
			assert.Len(t, sessions(b), 1, "%s: no flow is expected of it", name)
		}
	})
}
