// Package preset has configurations of a translator that behave as a product does, or
// as the RFCs recommend.
//
// Each is a function of a [Site], which says who is behind the translator and which
// addresses it has, and returns a [snat.Config] to use or to change first. [All] lists
// them, [ByName] finds one by the name that a command line has. The values come from the
// product's documentation, and what that does not tell is marked as our choice. Where
// the engine cannot do as the product does, the preset's comment says so.
//
// The package holds no state and knows only what package snat exports; package snat
// does not know it. An error names the preset, and joins all that is wrong with the
// site; the rest is for [snat.Config.Validate] to find. Functions are safe for
// concurrent use.
package preset

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Site is what no preset can know: who is behind the translator and which
// addresses it has.
type Site struct {
	// Instances are the virtual machines or nodes, with names and addresses;
	// Ports and Policy are the preset's business and must not be set.
	Instances []snat.Instance

	// Routes are passed on to the configuration.
	Routes []snat.Route

	// Frontends are the public addresses, in the order in which they are used.
	Frontends []netip.Addr

	// PortsPerInstance is how many ports each instance gets of each protocol
	// and address family, where a preset preallocates them. 0 means the preset's default.
	PortsPerInstance int

	// IdleTimeout is that of established TCP connections, where the product
	// lets its user choose. 0 means the product's default.
	IdleTimeout time.Duration

	// Seed decides everything that is random.
	Seed uint64
}

// Preset is a named configuration.
type Preset struct {
	Name      string                          // as ByName takes it, such as "azure-lb"
	Summary   string                          // one line for people
	Configure func(Site) (snat.Config, error) // one of the functions of this package
}

// Names of presets, which their errors begin with.
const (
	nameAWSNATGateway   = "aws-natgw"
	nameAzureLB         = "azure-lb"
	nameAzureLB2019     = "azure-lb-2019"
	nameNATGateway2023  = "azure-natgw"
	nameNATGateway2022  = "azure-natgw-2022"
	nameNATGateway2020  = "azure-natgw-2020"
	nameCGN             = "cgn"
	nameGCPCloudNAT     = "gcp-cloudnat"
	nameLinuxMasquerade = "linux-masquerade"
	nameRFC             = "rfc"
)

// All returns all presets, sorted by name.
func All() []Preset {
	gateway := func(g NATGatewayGeneration) func(Site) (snat.Config, error) {
		return func(s Site) (snat.Config, error) { return AzureNATGateway(s, g) }
	}
	return []Preset{
		{nameAWSNATGateway, "AWS NAT gateway", AWSNATGateway},
		{nameAzureLB, "Azure Standard Load Balancer, outbound rule", AzureLB},
		{nameAzureLB2019, "the same with the UDP ports of 2019: never shared", AzureLB2019},
		{nameNATGateway2023, "Azure NAT gateway, as documented since 2023: late segments reset their sender", gateway(NATGateway2023)},
		{nameNATGateway2020, "Azure NAT gateway, preview of 2020: resets to the inside only", gateway(NATGateway2020)},
		{nameNATGateway2022, "Azure NAT gateway, timers of 2022: resets to the inside only", gateway(NATGateway2022)},
		{nameCGN, "carrier-grade NAT: rfc with port blocks, quotas and a log", CGN},
		{nameGCPCloudNAT, "GCP Cloud NAT, static port allocation", GCPCloudNAT},
		{nameLinuxMasquerade, "Linux masquerade (nf_nat and nf_conntrack)", LinuxMasquerade},
		{nameRFC, "a NAT as the RFCs recommend it", RFC},
	}
}

// ByName returns the preset of a name, and whether there is one.
func ByName(name string) (Preset, bool) {
	all := All()
	i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		return Preset{}, false
	}
	return all[i], true
}

// begin checks what all presets check and returns the configuration to complete.
// frontends is the most a product has of each address family, and minIdle and
// maxIdle what it allows as idle timeout, in steps.
func (s *Site) begin(preset string, frontends int, minIdle, maxIdle, step time.Duration) (snat.Config, error) {
	var wrong problems.List
	f := s.families()
	if k := max(len(f[0]), len(f[1])); k < 1 || k > frontends {
		wrong.Add("Frontends", problems.Rawf("has %d addresses", k), flow.ErrOutOfRange, "1..%d of each family", frontends)
	}
	if d := s.IdleTimeout; d != 0 && (d < minIdle || d > maxIdle || d%step != 0) {
		wrong.Add("IdleTimeout", d, flow.ErrOutOfRange, "%v..%v in steps of %v", minIdle, maxIdle, step)
	}
	for i := range s.Instances {
		if len(s.Instances[i].Ports) > 0 || s.Instances[i].Policy != nil {
			wrong.Add(problems.Index("Instances", i), problems.None, flow.ErrConflict, "the preset sets Ports and Policy")
		}
	}
	if err := wrong.Err(); err != nil {
		return snat.Config{}, fmt.Errorf("preset: %s: %w", preset, err)
	}
	return snat.Config{Instances: slices.Clone(s.Instances), Routes: s.Routes, Dataplane: snat.Dataplane{Seed: s.Seed}}, nil
}

// refuse returns the error of a preset about one field.
func refuse(preset, path string, value any, kind error, detail string, args ...any) error {
	return fmt.Errorf("preset: %s: %w", preset, problems.New(path, value, kind, detail, args...))
}

// families returns the frontends of IPv4, and those of IPv6, in their order.
func (s *Site) families() (f [2][]netip.Addr) {
	for _, a := range s.Frontends {
		if a.Is4() {
			f[0] = append(f[0], a)
		} else {
			f[1] = append(f[1], a)
		}
	}
	return f
}

// unlimited is a number of frontends for products that document none.
const unlimited = 1 << 16

// preallocate grants every instance of c its ports of each address family, as
// runs of consecutive ports from 1024 on: the first frontend is used up first,
// and a run that does not fit is continued on the next one. perFrontend is the
// number of ports of a frontend.
func (s *Site) preallocate(c *snat.Config, preset string, ports, perFrontend int) error {
	var wrong problems.List
	families := s.families()
	for f, name := range []string{"IPv4", "IPv6"} {
		addrs := families[f]
		if len(addrs) == 0 {
			continue
		}
		if need := len(c.Instances) * ports; need > len(addrs)*perFrontend {
			wrong.Add("Frontends", problems.Rawf("has %d %s addresses", len(addrs), name), flow.ErrOutOfRange,
				"%d instances with %d ports need %d", len(c.Instances), ports, (need+perFrontend-1)/perFrontend)
			continue
		}
		for i, at := 0, 0; i < len(c.Instances); i++ {
			inst := &c.Instances[i]
			inst.Ports = slices.Clip(inst.Ports)
			for left := ports; left > 0; {
				n := min(left, perFrontend-at%perFrontend)
				inst.Ports = append(inst.Ports, snat.PortRange{Frontend: addrs[at/perFrontend], First: uint16(flow.SystemPorts + at%perFrontend), Count: n})
				at, left = at+n, left-n
			}
		}
	}
	if err := wrong.Err(); err != nil {
		return fmt.Errorf("preset: %s: %w", preset, err)
	}
	return nil
}
