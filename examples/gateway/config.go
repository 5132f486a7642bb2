// From the command line to a translator.

package main

import (
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

const defaultPreset = "azure-lb"

// presets are the behaviors that -preset names, each a change to the defaults of
// package snat. Those are Azure's: an outbound rule of a load balancer.
var presets = map[string]func(*snat.Config){
	defaultPreset: func(*snat.Config) {},
}

// config returns the translator that the command line describes.
func (o *options) config() snat.Config {
	inst := snat.Instance{Name: "inside", Inside: o.inside}
	for _, is6 := range []bool{false, true} {
		frontends := o.frontendsOf(is6)
		left := o.ports
		if left == 0 {
			left = len(frontends) * lb.PortsPerFrontend
		}
		for _, f := range frontends {
			if n := min(left, lb.PortsPerFrontend); n > 0 {
				inst.Ports = append(inst.Ports, snat.PortRange{Frontend: f, First: lb.FirstPort, Count: n})
				left -= n
			}
		}
	}
	c := snat.Config{Instances: []snat.Instance{inst}}
	presets[o.preset](&c)
	if o.idle > 0 {
		c.IdleTimeout = o.idle
	}
	c.EnableTCPReset = c.EnableTCPReset || o.reset
	if o.icmp {
		c.ICMP.Queries, c.ICMP.Errors = true, true
	}
	if o.fragments {
		c.Fragments.Mode = snat.FragmentsVirtual
	}
	return c
}
