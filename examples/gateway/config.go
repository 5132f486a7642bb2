// From the command line to a translator.

package main

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// config returns the translator that the command line describes: what the preset
// makes of a single instance with all inside hosts behind it. Where the preset
// grants ports to instances, this one gets all that the frontends have, but for those
// near a forward's, unless -ports says how many.
func (o *options) config() (snat.Config, error) {
	product, err := command.Preset(o.preset)
	if err != nil {
		return snat.Config{}, err
	}
	site := preset.Site{
		Instances: []snat.Instance{{Name: "inside", Inside: command.Merge(o.inside)}}, Frontends: o.frontends,
		PortsPerInstance: o.ports, IdleTimeout: o.idle, Seed: o.seed,
	}
	c, err := product.Configure(site)
	if err != nil {
		return c, fmt.Errorf("-preset %s: %w", o.preset, err)
	}
	o.extras.Apply(&c)
	if err := o.addForwards(&c); err != nil {
		return c, err
	}
	_, shared := c.Ports.(*snat.Shared)
	switch {
	case shared && o.ports > 0:
		err = fmt.Errorf("-ports %d: preset %s preallocates none", o.ports, o.preset)
	case o.ports == 0 && command.Preallocated(product, site) > 0:
		c.Instances[0].Ports = nil
		for _, f := range o.frontends {
			c.Instances[0].Ports = append(c.Instances[0].Ports, o.freePorts(f)...)
		}
	}
	if err != nil {
		return c, err
	}
	return c, c.Validate()
}
