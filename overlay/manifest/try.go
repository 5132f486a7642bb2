// The last look: whether overlay takes what has been read. Its problems are told by where
// the fields stand in the files.

package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

// relocated is a problem of overlay that is told by another place.
type relocated struct {
	text string
	err  error
}

// Error returns what is wrong, without the place.
func (r relocated) Error() string { return r.text }

// Unwrap returns the problem as overlay has it.
func (r relocated) Unwrap() error { return r.err }

// include takes over what overlay says is wrong. at finds the place of a Go path.
func (r *reader) include(err error, at func(golang string) decode.Place) {
	if err == nil {
		return
	}
	var joined interface{ Unwrap() []error }
	all := []error{err}
	if errors.As(err, &joined) {
		all = joined.Unwrap()
	}
	for _, e := range all {
		text := e.Error()
		golang, rest := splitPath(text)
		place := at(golang)
		field, what, ok := strings.Cut(rest, ": ")
		if !ok {
			field, what = "", rest
		}
		where := place.String()
		if field != "" {
			where += " " + field
		}
		r.problems.Include(where, relocated{what, e})
	}
}

// splitPath cuts the Go path off the beginning of a problem, and what follows it: its value, if it shows one,
// and what is wrong. There is no path if the problem names no field.
func splitPath(text string) (golang, rest string) {
	depth := 0
	for i, c := range text {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth > 0:
		case c == ' ':
			return isPath(text[:i], text[i+1:])
		case c == ':':
			if strings.HasPrefix(text[i:], ": ") {
				return isPath(text[:i], text[i:])
			}
		}
	}
	return "", text
}

// isPath returns its arguments if the first is a Go path, and else the text of both.
func isPath(golang, rest string) (string, string) {
	if golang == "" || golang[0] < 'A' || golang[0] > 'Z' {
		return "", golang + " " + rest
	}
	return golang, rest
}

// at returns where a field of the configuration stands.
func (r *reader) at(golang string) decode.Place {
	p := r.nearest(golang)
	if _, exact := r.places[golang]; !exact && golang != "" {
		p.Field = written(golang) // what is missing has no place of its own
	}
	return p
}

// written returns a Go path as a cluster file has it.
func written(golang string) string {
	parts := strings.Split(golang, ".")
	for i, p := range parts {
		name, index, indexed := strings.Cut(p, "[")
		if parts[i] = decode.LowerCamel(name); indexed {
			parts[i] += "[" + index
		}
	}
	return strings.Join(parts, ".")
}

// pair gives every pool of the configuration its name, and its labels and taints.
func (r *reader) pair() {
	c := r.cluster
	known := c.pools
	c.pools = make([]pool, len(c.Config.NodePools))
	for i := range c.Config.NodePools {
		p := &c.Config.NodePools[i]
		if p.Name == "" {
			p.Name = fmt.Sprintf("nodepool%d", i+1)
		}
		c.pools[i].Name = p.Name
		if j := slices.IndexFunc(known, func(q pool) bool { return q.Name == p.Name }); j >= 0 {
			c.pools[i] = known[j]
		}
	}
}

// try asks overlay about the configuration, and then about Services and host ports in a
// cluster of few nodes.
func (r *reader) try() {
	if err := r.cluster.Config.Validate(); err != nil {
		r.include(err, r.at)
		return
	}
	few := r.cluster.Config
	few.NodePools = slices.Clone(few.NodePools)
	for i := range few.NodePools {
		p := &few.NodePools[i]
		p.Count, p.MinCount, p.MaxCount, p.MaxSurge = 1, 0, 0, "1"
	}
	c, err := overlay.New(few)
	if err != nil {
		r.include(err, r.at)
		return
	}
	defer c.Close()
	r.tryServices(c)
	node := c.Nodes()[0].Name
	for i := range r.cluster.Workloads {
		r.tryHostPorts(c, node, &r.cluster.Workloads[i])
	}
}

// tryServices makes the Services: all together, and one by one if they are refused, to tell
// whose the problems are.
func (r *reader) tryServices(c *overlay.Cluster) {
	all := make([]overlay.Service, len(r.cluster.Services))
	for i := range all {
		all[i] = r.cluster.Services[i].Service
	}
	if _, err := c.AddServices(flow.At(0), all...); err == nil {
		return
	}
	for i := range r.cluster.Services {
		s := &r.cluster.Services[i]
		_, err := c.AddService(flow.At(0), s.Service)
		r.include(unwrapped(err), func(golang string) decode.Place {
			if golang == "" {
				return s.at.place()
			}
			return s.at.place(s.written(golang)...)
		})
	}
}

// unwrapped takes the name of the Service off an error of AddService.
func unwrapped(err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "Service ") {
		return inner
	}
	return err
}

// tryHostPorts opens the host ports of a workload on a node and closes them again.
func (r *reader) tryHostPorts(c *overlay.Cluster, node string, w *Workload) {
	ports := w.hostPorts()
	if w.HostNetwork {
		if w.HostPortAnnotation != "" {
			r.omit(w.annotation(), fmt.Sprintf("%q", w.HostPortAnnotation), "with hostNetwork every port is one of the node")
		}
		return
	}
	if len(ports) == 0 && w.HostPortAnnotation == "" {
		return
	}
	if _, err := c.AddPod(node, "trial"); err != nil {
		r.problems.Include(w.at.place().String(), err)
		return
	}
	_, err := c.OpenHostPorts("trial", w.Name, w.containerPorts(), w.HostPortAnnotation)
	r.include(err, func(golang string) decode.Place {
		if w.HostPortAnnotation != "" && !strings.HasPrefix(golang, "ports") && !strings.HasPrefix(golang, "Ports") {
			return w.annotation()
		}
		return w.at.place(append(slices.Clone(w.pod), "containers")...)
	})
	if err := c.RemovePod("trial"); err != nil {
		r.problems.Include(w.at.place().String(), err)
	}
}

// annotation returns where the annotation for host ports stands.
func (w *Workload) annotation() decode.Place {
	steps := append(slices.Clone(w.pod[:len(w.pod)-1]), "metadata", "annotations", overlay.HostPortAnnotation)
	return w.at.place(steps...)
}

// hostPorts returns the ports that are open at the node.
func (w *Workload) hostPorts() (ports []overlay.ContainerPort) {
	for _, p := range w.Ports {
		if w.HostNetwork {
			p.HostPort = p.Port
		}
		if p.HostPort != 0 {
			ports = append(ports, p.ContainerPort)
		}
	}
	return ports
}

// containerPorts returns all ports, as overlay takes them.
func (w *Workload) containerPorts() []overlay.ContainerPort {
	ports := make([]overlay.ContainerPort, len(w.Ports))
	for i, p := range w.Ports {
		ports[i] = p.ContainerPort
	}
	return ports
}
