// Metrics in the text format of Prometheus.

package monitor

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// TextContentType is the media type of what [WriteText] writes.
const TextContentType = "text/plain; version=0.0.4; charset=utf-8"

// help says of each metric in a line what it is.
var help = map[Metric]string{
	SnatConnectionCount:   "New outbound flows.",
	AllocatedSnatPorts:    "Ports granted to a backend.",
	UsedSnatPorts:         "Ports of a backend that at least one new flow could not get.",
	HeldSnatPorts:         "Used ports that no flow is active on.",
	VipAvailability:       "100 while new flows to a frontend port reach a backend, else 0.",
	DipAvailability:       "Share of the probes of the last minute that a backend has answered well, in percent.",
	SYNCount:              "SYNs through a frontend.",
	ByteCount:             "Bytes of IP packets that were forwarded.",
	PacketCount:           "Packets that were forwarded.",
	SNATConnectionCount:   "New outbound flows of a NAT gateway.",
	TotalConnectionCount:  "Active flows of a NAT gateway.",
	PacketDropCount:       "Packets that a NAT gateway has dropped.",
	DatapathAvailability:  "Availability of a NAT gateway, in percent.",
	HolderSnatPorts:       "Pairs of outside port and remote that an inside address holds, or that are held towards a destination.",
	HolderConnectionCount: "New flows of an inside address, or to a destination.",
	HolderBlamedCount:     "Refusals because of the ports that an inside address held.",
}

// escape makes label values of texts. Only the zone of an address can need it.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// WriteText writes samples in the text format of Prometheus, version 0.0.4 ("Exposition formats"): metrics in
// the order of their first samples, each with HELP and TYPE, and without timestamps, for virtual time means
// nothing to whoever scrapes. A name is Azure's behind "natplane_", with "_total" behind what counts events; labels are
// the dimensions with Azure's names. They are not in snake case, in which SnatConnectionCount and
// SNATConnectionCount would be one.
//
// Samples of several sources may be joined, if no series is in two of them; the error names one that is, or is that
// of w. Nothing is written of samples with an error of their own. Cost: O(samples).
func WriteText(w io.Writer, samples []Sample) error {
	var order []Metric
	lines, seen := map[Metric]*strings.Builder{}, make(map[seriesKey]bool, len(samples))
	for _, s := range samples {
		key := seriesKey{s.Metric, s.Dimensions}
		if seen[key] {
			return fmt.Errorf("monitor: two samples of one series: %v", s)
		}
		seen[key] = true
		name, kind := "natplane_"+string(s.Metric), "gauge"
		if s.Metric.counts() {
			name, kind = name+"_total", "counter"
		}
		text := lines[s.Metric]
		if text == nil {
			text = &strings.Builder{}
			lines[s.Metric] = text
			order = append(order, s.Metric)
			fmt.Fprintf(text, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", name, help[s.Metric], kind)
		}
		text.WriteString(name)
		separator := "{"
		for d := range s.named() {
			text.WriteString(separator + d.name + `="` + escape.Replace(d.value) + `"`)
			separator = ","
		}
		if separator == "," {
			text.WriteByte('}')
		}
		text.WriteString(" " + strconv.FormatFloat(s.Value, 'g', -1, 64) + "\n")
	}
	for _, m := range order {
		if _, err := io.WriteString(w, lines[m].String()); err != nil {
			return fmt.Errorf("monitor: %w", err)
		}
	}
	return nil
}
