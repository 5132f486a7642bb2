package snat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A port rests on, whatever becomes of the ports around it and whoever owns it.
func TestQuarantineThroughReconfigurations(t *testing.T) {
	c := carrierConfig(1, from(1024, 8))
	ownedPorts(&c).Allocation.Quarantine.Hold = 120 * time.Second
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		apply := func(c snat.Config) {
			t.Helper()
			_, err := w.Reconfigure(w.now, c)
			require.NoError(t, err)
			w.Check()
		}
		for i := range 8 {
			outsideOf(t, w.opens("udp", w.host(i, 5000), w.remote(0)))
		}
		w.at(240 * time.Second)
		require.Equal(t, 8, w.pool(w.is6, snat.UDP).Held())

		more := carrierConfig(1, from(2048, 8), from(1024, 8)) // all ordinals change
		ownedPorts(&more).Allocation = ownedOf(c).Allocation
		apply(more)
		assert.Equal(t, 8, w.pool(w.is6, snat.UDP).Held())
		assert.Equal(t, 8, w.pool(w.is6, snat.UDP).Free)
		for i := range 8 {
			assert.GreaterOrEqual(t, portOf(t, w.opens("udp", w.host(i, 5000), w.remote(0))), 2048)
		}
		assert.Equal(t, "drop ports", w.opens("udp", w.host(8, 5000), w.remote(0)))

		moved := carrierConfig(1, from(2048, 8)) // the resting ports go to another instance
		ownedPorts(&moved).Allocation = ownedOf(c).Allocation
		other := snat.Instance{Name: "other", Inside: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd09::/64")}}
		for _, r := range moved.Instances[0].Ports {
			r.First = 1024
			other.Ports = append(other.Ports, r)
		}
		moved.Instances = append(moved.Instances, other)
		apply(moved)
		stranger := map[bool]string{false: "10.9.0.1:5000", true: "[fd09::1]:5000"}[w.is6]
		assert.Equal(t, "drop ports", w.opens("udp", stranger, w.remote(0)))
		w.lazily(360*time.Second - time.Millisecond)
		assert.Equal(t, "drop ports", w.opens("udp", stranger, w.remote(0)))
		w.lazily(360 * time.Second)
		assert.Equal(t, 1024, portOf(t, w.opens("udp", stranger, w.remote(0))))

		free := moved
		ownedPorts(&free).Allocation = snat.Allocation{}
		w.at(500 * time.Second)
		require.NotZero(t, w.pool(w.is6, snat.UDP).Held())
		apply(free)
		assert.Zero(t, w.pool(w.is6, snat.UDP).Held(), "without a quarantine nothing rests")
		w.at(time.Hour)
		_, ok := w.NextDeadline()
		assert.False(t, ok)
	})
}

// A subscriber stays at home when its instance gets and loses other ports; who
// loses the home gets another one with the next session. Counts go on.
func TestSubscribersThroughReconfigurations(t *testing.T) {
	c := carrierConfig(3, from(1024, 8))
	ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Pooling: snat.Paired}
	ownedPorts(&c).Limits.Ports = 3
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		home := map[int]netip.Addr{}
		for i := range 6 {
			home[i] = addrOf(t, w.opens("udp", w.host(i, 5000), w.remote(0)))
			require.Equal(t, home[i], addrOf(t, w.opens("tcp", w.host(i, 5000), w.remote(0))))
		}
		next := carrierConfig(3, from(2048, 16), from(1024, 8))
		ownedPorts(&next).Allocation = ownedOf(c).Allocation
		ownedPorts(&next).Limits = ownedOf(c).Limits
		ownedPorts(&next).Allocation.Pooling = snat.PairedSoft
		ports := next.Instances[0].Ports
		lost := home[0]
		next.Instances[0].Ports = nil
		for i := range ports { // in another order, and without the home of the first
			if r := ports[len(ports)-1-i]; r.Frontend != lost {
				next.Instances[0].Ports = append(next.Instances[0].Ports, r)
			}
		}
		_, err := w.Reconfigure(w.now, next)
		require.NoError(t, err)
		w.Check()
		for i := range 6 {
			now := addrOf(t, w.opens("udp", w.host(i, 6000), w.remote(0)))
			if home[i] == lost {
				assert.NotEqual(t, lost, now)
				assert.Equal(t, now, addrOf(t, w.opens("tcp", w.host(i, 6001), w.remote(0))))
			} else {
				assert.Equal(t, home[i], now)
				assert.Equal(t, "drop quota", w.opens("udp", w.host(i, 6001), w.remote(0)), "what was before counts")
			}
		}
		ownedPorts(&next).Allocation = snat.Allocation{}
		ownedPorts(&next).Limits = snat.Limits{}
		_, err = w.Reconfigure(w.now, next)
		require.NoError(t, err)
		w.Check()
		assert.Empty(t, w.Subscribers(), "nobody counts any more")
		outsideOf(t, w.opens("udp", w.host(2, 6001), w.remote(0)))
		_, err = w.Reconfigure(w.now, c)
		require.NoError(t, err)
		w.Check()
		for _, row := range w.Subscribers() {
			assert.Equal(t, row.Sessions, row.TCPPorts+row.UDPPorts)
		}
		assert.NotEmpty(t, w.Subscribers())
	})
}

// Observers, HoldFree and reconfigurations may come at any moment while traffic
// runs; nothing is lost or counted twice.
func TestSubscribersWhileTrafficRuns(t *testing.T) {
	c := carrierConfig(2, from(1024, 64))
	ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Pooling: snat.PairedSoft, Quarantine: snat.Quarantine{Hold: time.Second, MaxPorts: 40}}
	ownedPorts(&c).Limits = snat.Limits{Ports: 20, SessionRate: 100}
	w := &carrier{bed: newBed(t, c)}
	done := make(chan struct{})
	for g := range 3 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 2000 {
				now := flow.At(time.Duration(i) * 100 * time.Millisecond)
				w.Outbound(now, pkttest.UDP(w.host(g*4+i%4, 5000+i%50), w.remote(i%3), "x"))
			}
		}()
	}
	for running, k := 3, 0; running > 0; k++ {
		select {
		case <-done:
			running--
		default:
		}
		for _, row := range w.Subscribers() {
			if row.UDPPorts > 20 {
				t.Errorf("%+v has more than its quota", row)
			}
		}
		w.Stats()
		w.NextDeadline()
		if k%8 == 0 {
			w.HoldFree(0)
		}
		if k%16 == 0 {
			ownedPorts(&c).Limits.Sessions = 30 + k%32
			_, err := w.Reconfigure(0, c)
			require.NoError(t, err)
		}
	}
	w.Check()
	w.at(time.Hour)
	assert.Empty(t, w.Subscribers())
	assert.Equal(t, 128, w.pool(false, snat.UDP).Free)
}
