// Flows of Hubble, the observer of Cilium, as lines of JSON: flow.proto, message Flow, alone or
// within an ExportEvent or GetFlowsResponse.

package trace

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// event is a line.
type event struct {
	Flow *observed `json:"flow"`
	observed
}

// observed is a packet that was seen.
type observed struct {
	Time    string `json:"time"`
	Verdict string `json:"verdict"`
	IP      *struct {
		Source      string `json:"source"`
		Destination string `json:"destination"`
	} `json:"IP"`
	L4 struct {
		TCP *struct {
			ports
			Flags struct {
				FIN, SYN, RST, ACK bool
			} `json:"flags"`
		} `json:"TCP"`
		UDP *ports `json:"UDP"`
	} `json:"l4"`
	Source      pod    `json:"source"`
	Destination pod    `json:"destination"`
	Type        string `json:"Type"`
	IsReply     *bool  `json:"is_reply"`
}

type ports struct {
	Source      uint16 `json:"source_port"`
	Destination uint16 `json:"destination_port"`
}

type pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"pod_name"`
}

// hubble reads lines.
func (r *reader) hubble(data []byte) {
	line, flows := 0, 0
	for text := range bytes.Lines(data) {
		line++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var e event
		if err := json.Unmarshal(text, &e); err != nil {
			r.bad(line, "JSON", shortened(text), problems.ErrSyntax, "%v", err)
			continue
		}
		if e.Flow == nil {
			e.Flow = &e.observed
		}
		if e.Flow.Time != "" || e.Flow.IP != nil {
			flows++
		}
		r.observed(line, e.Flow)
	}
	if flows == 0 && r.problems.Len() == 0 {
		r.bad(1, "flow", "", problems.ErrMissing, "no line has a flow of Hubble, and the file does not begin with the records of a log of Azure")
	}
}

func shortened(text []byte) string { return string(text[:min(len(text), 40)]) }

// observed adds what was seen to its flow.
func (r *reader) observed(line int, o *observed) {
	if o.IP == nil || o.Type == "L7" || o.Type == "SOCK" || o.L4.TCP == nil && o.L4.UDP == nil {
		r.skip("no packet of TCP or UDP")
		return
	}
	at, err := time.Parse(time.RFC3339Nano, o.Time)
	if err != nil {
		r.bad(line, "time", o.Time, problems.ErrSyntax, "must be a time such as 2026-11-29T10:00:00Z")
		return
	}
	src, err := netip.ParseAddr(o.IP.Source)
	if err != nil {
		r.bad(line, "IP.source", o.IP.Source, problems.ErrAddress, "")
		return
	}
	dst, err := netip.ParseAddr(o.IP.Destination)
	if err != nil {
		r.bad(line, "IP.destination", o.IP.Destination, problems.ErrAddress, "")
		return
	}
	p := o.L4.UDP
	var s segment
	if t := o.L4.TCP; t != nil {
		p = &t.ports
		s = segment{t.Flags.SYN && !t.Flags.ACK, t.Flags.FIN, t.Flags.RST}
	}
	k := key{netip.AddrPortFrom(src.Unmap(), p.Source), netip.AddrPortFrom(dst.Unmap(), p.Destination), o.L4.TCP == nil}
	if p.Source == 0 || p.Destination == 0 {
		r.bad(line, "l4", "0", problems.ErrOutOfRange, "ports are 1..65535")
		return
	}
	from, to := o.Source, o.Destination
	if o.IsReply != nil && *o.IsReply {
		k.src, k.dst, from, to = k.dst, k.src, to, from
	}
	switch {
	case o.Verdict == "DROPPED" || o.Verdict == "ERROR":
		r.skip("dropped")
	case from.Name == "":
		r.skip("not begun by a pod")
	case to.Name != "":
		r.skip("to a pod")
	case !flow.IsHost(k.dst.Addr()):
		r.skip(toMany)
	default:
		since, ok := r.since(at)
		if !ok {
			r.bad(line, "time", o.Time, problems.ErrOutOfRange, far)
			return
		}
		r.packet(line, k, from.Namespace+"/"+from.Name, since, s, 0)
	}
}
