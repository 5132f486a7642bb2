package snat

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// set gives a value that is not zero to the first number, text or pointer in v that can
// have one.
func set(v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.77")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/25")))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1_000_000)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Array:
		set(v.Index(0))
	case reflect.Struct:
		set(v.Field(0))
	case reflect.Slice:
		more := reflect.New(v.Type().Elem()).Elem()
		set(more)
		v.Set(reflect.Append(v, more))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		set(v.Elem())
	default:
		panic("snat: a field of kind " + v.Kind().String())
	}
}

// A policy that differs in any field is another one to the dataplane.
func TestPolicyIsCompiledWhole(t *testing.T) {
	was := Policy{Timeouts: AzureTimeouts(0)}.whole()
	for f := range reflect.TypeFor[Policy]().NumField() {
		p := was
		field := reflect.TypeFor[Policy]().Field(f)
		switch field.Name {
		case "EnforceMinimums": // a matter of validation
			continue
		case "IdleTimeout": // what Timeouts do not say
			p.Timeouts.UDP = 0
		}
		set(reflect.ValueOf(&p).Elem().Field(f))
		assert.NotEqual(t, was.compiled(), p.compiled(), field.Name)
	}
	for f := range reflect.TypeFor[flow.Timeouts]().NumField() {
		p := was
		set(reflect.ValueOf(&p.Timeouts).Elem().Field(f))
		assert.NotEqual(t, was.compiled(), p.compiled(), reflect.TypeFor[flow.Timeouts]().Field(f).Name)
	}
}

// whole returns p with all its timeouts set.
func (p Policy) whole() Policy {
	p.Timeouts = p.timeouts()
	return p
}

// An instance that differs in any field, and a forward or a target, is another one to the
// dataplane, and so is what never changes.
func TestInstancesAndForwardsAreCompiledWhole(t *testing.T) {
	config := func() Config {
		addr := netip.MustParseAddr
		return Config{
			Instances: []Instance{{
				Name: "a", Addrs: []netip.Addr{addr("10.0.0.4")}, Ports: []PortRange{{Frontend: addr("203.0.113.1"), First: 1024, Count: 8}},
				Deterministic: &deterministic.Parameters{},
			}},
			Forwards: []Forward{{Frontend: addr("203.0.113.1"), FirstPort: 80, Targets: []Target{{Instance: "a", Addr: addr("10.0.0.4")}}}},
			Routes:   []Route{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), FirstPort: 80}},
		}
	}
	compiled := func(c Config) any {
		n := &NAT{config: c.settings()}
		return n.compiled(&settings{})
	}
	was := compiled(config())
	assert.Equal(t, was, compiled(config()))
	for _, of := range []func(c *Config) any{
		func(c *Config) any { return &c.Instances[0] }, func(c *Config) any { return &c.Instances[0].Ports[0] },
		func(c *Config) any { return &c.Forwards[0] }, func(c *Config) any { return &c.Forwards[0].Targets[0] },
		func(c *Config) any { return &c.Routes[0] },
	} {
		c := config()
		for f := range reflect.TypeOf(of(&c)).Elem().NumField() {
			c := config()
			v := reflect.ValueOf(of(&c)).Elem()
			set(v.Field(f))
			assert.NotEqual(t, was, compiled(c), "%v.%s", v.Type(), v.Type().Field(f).Name)
		}
	}
}
