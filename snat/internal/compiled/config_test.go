package compiled

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
)

// What an instance's sessions depend on is compared, which is all but how it is called and
// when flows end.
func TestSameInstance(t *testing.T) {
	changes := map[string]func(i *Instance){
		"Realm":         func(i *Instance) { i.Realm++ },
		"Addrs":         func(i *Instance) { i.Addrs = append(i.Addrs, netip.IPv6Unspecified()) },
		"PublicAddrs":   func(i *Instance) { i.PublicAddrs = append(i.PublicAddrs, netip.IPv6Unspecified()) },
		"Inside":        func(i *Instance) { i.Inside = append(i.Inside, netip.Prefix{}) },
		"Ports":         func(i *Instance) { i.Ports = append(i.Ports, Grant{TCP: true}) },
		"Deterministic": func(i *Instance) { i.Deterministic = &deterministic.Parameters{} },
	}
	other := []string{"Name", "Policy"}
	assert.Len(t, changes, reflect.TypeFor[Instance]().NumField()-len(other))
	for field, change := range changes {
		was, is := Instance{}, Instance{Name: "x", Policy: 1}
		assert.True(t, is.Same(&was))
		change(&is)
		assert.False(t, is.Same(&was), field)
		assert.False(t, was.Same(&is), field)
	}
}

// All of a forward is compared, but what its Spec gets from the layout, and its policy.
func TestSameForward(t *testing.T) {
	changes := map[string]func(f *Forward){
		"Addr":       func(f *Forward) { f.Addr = netip.IPv6Unspecified() },
		"TCP":        func(f *Forward) { f.TCP = true },
		"UDP":        func(f *Forward) { f.UDP = true },
		"First":      func(f *Forward) { f.First++ },
		"Last":       func(f *Forward) { f.Last++ },
		"Fields":     func(f *Forward) { f.Fields = rendezvous.SourceIP },
		"Floating":   func(f *Forward) { f.Floating = true },
		"FromInside": func(f *Forward) { f.FromInside = true },
		"Targets":    func(f *Forward) { f.Targets = append(f.Targets, forwards.Target{State: forwards.Down}) },
		"Instances":  func(f *Forward) { f.Instances = append(f.Instances, "a") },
	}
	other := []string{"Spec.Frontend", "Spec.Shards", "Policy", "Spec"}
	assert.Len(t, changes, reflect.TypeFor[Forward]().NumField()+reflect.TypeFor[forwards.Spec]().NumField()-len(other))
	for field, change := range changes {
		was, is := Forward{}, Forward{Policy: 1}
		assert.True(t, is.Same(&was))
		change(&is)
		assert.False(t, is.Same(&was), field)
		assert.False(t, was.Same(&is), field)
	}
}
