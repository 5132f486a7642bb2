// What the gateway says: who it is, and what it has done.

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

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
	if i := c.Inventory; i != nil {
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
	w := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	s := st.nat.Stats()
	line("\nSTATISTICS after %v", st.uptime.Round(time.Millisecond))
	line("device\treceived\tin batches\tsent\trefused")
	for side, d := range st.devices {
		line("%s (%v)\t%d\t%d\t%d\t%d", st.names[side], flow.Side(side), d.Received, d.Batches, d.Sent, d.Failed)
	}
	line("\npackets\tforwarded\tpassed unchanged\tdropped")
	ways := []struct {
		name string
		snat.PacketStats
	}{{"outbound", s.Outbound}, {"inbound", s.Inbound}}
	for _, way := range ways {
		line("%s\t%d\t%d\t%d", way.name, way.Forwarded, way.Bypassed, way.Dropped)
	}
	if s.Outbound.Dropped+s.Inbound.Dropped > 0 {
		line("\ndropped\tpackets\treason")
		for _, way := range ways {
			for r := range flow.Reasons() {
				if n := way.Drops[r]; n > 0 {
					line("%s\t%d\t%v: %s", way.name, n, r, r.Sentence())
				}
			}
		}
	}
	line("\nsessions\tcreated\tactive\tended\trefused a port\tRSTs made")
	line("\t%d\t%d\t%d\t%d\t%d", s.SessionsCreated, s.SessionsActive, s.SessionsEnded, s.ConnectionsFailed, s.Resets)
	line("\nports\tprotocol\tallocated\tin use\tpeak")
	for _, f := range st.nat.Frontends() {
		protocol := f.Protocol.String()
		if f.Protocol == snat.Query {
			protocol = "ICMP"
		}
		line("%v\t%s\t%d\t%d\t%d", f.Frontend, protocol, f.Allocated, f.Used, f.Peak)
	}
	for _, top := range []struct {
		title string
		by    snat.By
	}{{"inside host", snat.ByInside}, {"destination", snat.ByDestination}} {
		users := st.nat.TopPorts(topUsers, top.by)
		if len(users) > 0 {
			line("\n%s\tports in use or held", top.title)
		}
		for _, u := range users {
			line("%s\t%d", u.Name, u.Ports)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := to.Write(buf.Bytes())
	return err
}
