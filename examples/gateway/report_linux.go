// What the gateway says: who it is, and what it has done.

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/router"
	"github.com/seed-a61be3fe/natplane/snat"
)

// summary describes the gateway in a line.
func (o *options) summary(c *snat.Config) string {
	return fmt.Sprintf("%s: %s on %s go out as %s on %s", o.preset, list(o.inside), o.insideDev, list(ranges(c)), o.outsideDev)
}

// ranges returns the ports of the inside, one text per run of them.
func ranges(c *snat.Config) (all []string) {
	for _, inst := range c.Instances {
		for _, r := range inst.Ports {
			all = append(all, fmt.Sprintf("%v port %d-%d", r.Frontend, r.First, int(r.First)+r.Count-1))
		}
	}
	if i, ok := c.Ports.(*snat.Shared); ok {
		first, last := cmp.Or(i.FirstPort, snat.DefaultFirstPort), cmp.Or(i.LastPort, snat.DefaultLastPort)
		for _, f := range i.Frontends {
			all = append(all, fmt.Sprintf("%v port %d-%d", f, first, last))
		}
	}
	return all
}

// list joins values by commas.
func list[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ", ")
}

// statistics is all that is counted.
type statistics struct {
	uptime  time.Duration
	names   [2]string // of the devices, by side; so below
	devices [2]router.DeviceStats
	nat     *snat.NAT
}

// statisticsOf returns what a gateway has counted so far.
func statisticsOf(o *options, nat *snat.NAT, r *router.Router) statistics {
	return statistics{
		uptime:  r.Now().Duration(),
		names:   [2]string{flow.Inside: o.insideDev, flow.Outside: o.outsideDev},
		devices: [2]router.DeviceStats{flow.Inside: r.Device(flow.Inside), flow.Outside: r.Device(flow.Outside)},
		nat:     nat,
	}
}

// topUsers is the number of inside hosts and destinations that are shown.
const topUsers = 5

// write prints the statistics for people.
func (st statistics) write(to io.Writer) error {
	var buf bytes.Buffer // one write, or lines of other output would come between
	p := page.New(&buf, to)
	s := st.nat.Stats()
	p.Section("Statistics", fmt.Sprintf("after %v", st.uptime.Round(time.Millisecond)))
	t := p.Table("lrRrr")
	t.Row("device", "received", "in batches", "sent", "refused")
	for side, d := range st.devices {
		t.Row(fmt.Sprintf("%s (%v)", st.names[side], flow.Side(side)), page.Count(d.Received), page.Count(d.Batches), page.Count(d.Sent), page.Count(d.Failed))
	}
	t.Print()

	ways := []struct {
		name string
		snat.PacketStats
	}{{"outbound", s.Outbound}, {"inbound", s.Inbound}}
	p.Section("Packets", "")
	t = p.Table("lrrr")
	t.Row("", "forwarded", "passed unchanged", "dropped")
	for _, way := range ways {
		t.Row(way.name, page.Count(way.Forwarded), page.Count(way.Bypassed), page.Count(way.Dropped))
	}
	t.Print()
	if s.Outbound.Dropped+s.Inbound.Dropped > 0 {
		p.Section("Dropped", "")
		t = p.Table("lrlw")
		for _, way := range ways {
			for r := range flow.Reasons() {
				if n := way.Drops[r]; n > 0 {
					t.Row(way.name, page.Count(n), r.String(), r.Sentence())
				}
			}
		}
		t.Print()
	}

	p.Section("Sessions", "")
	t = p.Table("rrrrr")
	t.Row("created", "active", "ended", "refused a port", "RSTs made")
	t.Row(page.Count(s.SessionsCreated), page.Count(s.SessionsActive), page.Count(s.SessionsEnded), page.Count(s.ConnectionsFailed), page.Count(s.Resets))
	t.Print()

	p.Section("Ports", "")
	t = p.Table("llrrRRr")
	t.Row("frontend", "protocol", "allocated", "used", "active", "held", "peak")
	for _, f := range st.nat.Frontends() {
		protocol := f.Protocol.String()
		if f.Protocol == snat.Query {
			protocol = "ICMP"
		}
		t.Row(f.Frontend.String(), protocol, page.Count(f.Allocated), page.Count(f.Used), page.Count(f.Active), page.Count(f.Held()), page.Count(f.Peak))
	}
	t.Print()
	for _, top := range []struct {
		title string
		by    snat.By
	}{{"Inside hosts", snat.ByInside}, {"Destinations", snat.ByDestination}} {
		users := st.nat.TopPorts(topUsers, top.by)
		if len(users) == 0 {
			continue
		}
		p.Section(top.title, "ports in use or held")
		t = p.Table("lr")
		for _, u := range users {
			t.Row(u.Name, page.Count(u.Ports))
		}
		t.Print()
	}
	_, err := to.Write(buf.Bytes())
	return err
}
