package command

import (
	"flag"

	"github.com/seed-a61be3fe/natplane/snat"
)

// Extras are what a translator does in addition to what its preset says.
type Extras struct {
	Reset     bool // a RST to both ends of a TCP connection that reaches its idle timeout
	Fragments bool // are translated
	ICMP      bool // queries and errors are translated
}

// Flags defines the flags of the extras; that of Reset has a name of its own.
func (x *Extras) Flags(fs *flag.FlagSet, reset string) {
	fs.BoolVar(&x.Reset, reset, false, "send a RST to both ends of an established TCP connection that reaches its idle timeout, even if the preset does not")
	fs.BoolVar(&x.Fragments, "fragments", false, "translate fragments, even if the preset drops them")
	fs.BoolVar(&x.ICMP, "icmp", false, "translate ICMP echo and errors, even if the preset drops them")
}

// Apply adds the extras to the configuration that a preset has made.
func (x Extras) Apply(c *snat.Config) {
	c.EnableTCPReset = c.EnableTCPReset || x.Reset
	if x.Fragments {
		c.Fragments.Mode = snat.FragmentsVirtual
	}
	if x.ICMP {
		c.ICMP.Queries, c.ICMP.Errors = true, true
	}
}
