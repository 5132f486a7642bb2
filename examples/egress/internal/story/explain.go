// Explanations: what the cluster would do with the packets of -explain.

package story

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/sentence"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// explanation is one packet as -json prints it.
type explanation struct {
	Packet string `json:"packet"` // as it was given
	Bytes  string `json:"bytes"`  // from address, port to address, port
	Steps  []step `json:"steps"`
	Action string `json:"action"`
	Reason string `json:"reason"` // why it is dropped; empty if it is not
}

// step is a decision.
type step struct {
	At       string `json:"at"`
	Decision string `json:"decision"`
}

// settled is when packets are explained: once health probes have found who is healthy.
var settled = flow.At(time.Minute)

// explain prints what becomes of each packet, before any traffic.
func explain(o options, site *Site, stdout io.Writer) error {
	f, err := newFleet(o, site)
	if err != nil {
		return err
	}
	defer f.Close()
	f.Advance(0, func(flow.Emission) {}) // the first probes
	f.Advance(settled, func(flow.Emission) {})
	var errs []error
	all := make([]explanation, 0, len(o.explain))
	for _, text := range o.explain {
		packet, err := sentence.Parse(text, names{f.Cluster})
		if err != nil {
			errs = append(errs, fmt.Errorf("-explain: %w", err))
			continue
		}
		x := f.Explain(settled, packet.Bytes)
		e := explanation{Packet: text, Bytes: packet.String(), Steps: []step{}, Action: x.Action.String()}
		for _, s := range x.Steps {
			e.Steps = append(e.Steps, step(s))
		}
		if x.Action == flow.Drop {
			e.Reason = x.Reason.String()
		}
		all = append(all, e)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(all)
	}
	p := page.New(stdout, stdout)
	for i, e := range all {
		if i > 0 {
			p.Note("")
		}
		mood := page.Good
		if e.Reason != "" {
			mood = page.Bad
		}
		p.Headline(mood, "%s: %s", e.Bytes, strings.TrimSpace(e.Action+" "+e.Reason))
		if means := actionMeans[e.Action]; means != "" {
			p.Note("%s", means)
		}
		t := p.Table("lw")
		for _, s := range e.Steps {
			t.Row(s.At, s.Decision)
		}
		t.Print()
	}
	remarks(p, site)
	return nil
}

// actionMeans says what becomes of a packet that is not dropped.
var actionMeans = map[string]string{
	flow.Forward.String(): "It goes on, with the addresses that the steps give it, and what answers it comes back the same way.",
	flow.Bypass.String():  "It goes on as it is: no address is changed, and nothing remembers it.",
	flow.Queued.String():  "It waits for the packet before it.",
}

// remarks prints what explanations may lack because the files do.
func remarks(p *page.Page, site *Site) {
	if site == nil || len(site.NotModelled) == 0 {
		return
	}
	p.Note("")
	p.Note("Of what the files say the cluster is without:")
	for _, what := range site.NotModelled[:min(len(site.NotModelled), mostOmissions)] {
		p.Bullet(what)
	}
	p.More(len(site.NotModelled)-mostOmissions, "omission", "")
}

// names finds what packets call by name.
type names struct{ cluster *overlay.Cluster }

// Addrs returns the addresses of pod/NAME, node/NAME, public/NAME, service/NAME or lb/NAME, and the port of
// a Service that has one port only.
func (n names) Addrs(kind, name string) (addrs []netip.Addr, port uint16, err error) {
	switch kind {
	case "pod":
		var all []string
		for p := range n.cluster.Pods() {
			all = append(all, p.Name)
		}
		if name, err = find("pod", name, all); err != nil {
			return nil, 0, err
		}
		p, _ := n.cluster.Pod(name)
		return p.Addrs, 0, nil
	case "node", "public":
		var all []string
		for _, p := range n.cluster.Nodes() {
			all = append(all, p.Name)
		}
		if name, err = find("node", name, all); err != nil {
			return nil, 0, err
		}
		p, _ := n.cluster.Node(name)
		switch {
		case kind == "node":
			return p.Addrs, 0, nil
		case len(p.PublicAddrs) == 0:
			return nil, 0, errors.New("the node has no public address")
		}
		return p.PublicAddrs, 0, nil
	case "service", "lb":
		var all []string
		services := n.cluster.Services()
		for i := range services {
			all = append(all, services[i].Name)
		}
		if name, err = find("Service", name, all); err != nil {
			return nil, 0, err
		}
		s := services[slices.Index(all, name)]
		addrs := s.ClusterIPs
		if kind == "lb" {
			addrs = s.LoadBalancerIPs
		}
		if len(addrs) == 0 {
			return nil, 0, fmt.Errorf("a Service of type %v has none", s.Type)
		}
		if len(s.Ports) == 1 {
			port = s.Ports[0].Port
		}
		return addrs, port, nil
	}
	return nil, 0, sentence.ErrKind
}

// find returns which of all names is meant: the name itself, one of the namespace default, or
// the only one of any namespace. The error names some that may be meant.
func find(what, name string, all []string) (string, error) {
	for _, exact := range []string{name, "default/" + name} {
		if slices.Contains(all, exact) {
			return exact, nil
		}
	}
	var same, like []string
	for _, other := range all {
		if strings.HasSuffix(other, "/"+name) {
			same = append(same, other)
		}
		if strings.Contains(other, name) {
			like = append(like, other)
		}
	}
	switch {
	case len(same) == 1:
		return same[0], nil
	case len(same) > 1:
		return "", fmt.Errorf("there are several: %s", some(same))
	case len(all) == 0:
		return "", fmt.Errorf("there is no %s at all", what)
	case len(like) > 0:
		return "", fmt.Errorf("there is no such %s; did you mean %s?", what, some(like))
	}
	return "", fmt.Errorf("there is no such %s, but %s", what, some(all))
}

// some lists the first names.
func some(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %s more", strings.Join(names[:most], ", "), page.Count(len(names)-most))
	}
	return strings.Join(names, ", ")
}
