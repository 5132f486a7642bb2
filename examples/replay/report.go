// What a replay found, for people and for programs.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// report is the result of a replay.
type report struct {
	options *options
	content *capture.Capture
	damage  error // of the file, if there is any
	repairs capture.Repairs
	hosts   []host
	flows   int // created
	digest  string
	*tally
	complete bool // not interrupted
}

// document is what -json prints. The names of its fields stay.
type document struct {
	Complete bool `json:"complete"` // false if the run was interrupted
	Packets  int  `json:"packets"`  // = forward + bypass + drop
	Verdicts struct {
		Forward int `json:"forward"`
		Bypass  int `json:"bypass"`
		Drop    int `json:"drop"`
	} `json:"verdicts"`
	Reasons   map[string]int `json:"reasons"` // of drops, by code, those that occurred
	Flows     int            `json:"flows"`   // created
	Roundtrip struct {
		Compared  int `json:"compared"` // = identical + canonical + different
		Identical int `json:"identical"`
		Canonical int `json:"canonical"`
		Different int `json:"different"`
	} `json:"roundtrip"`
	Frames struct {
		Total    int            `json:"total"`    // = packets + skipped
		Cut      int            `json:"cut"`      // kept by the capture in part only
		Repaired int            `json:"repaired"` // packets whose checksums had not been computed
		Untimed  int            `json:"untimed"`  // without a time that makes sense
		Skipped  map[string]int `json:"skipped"`  // without an IP packet, by what they are
		Damage   string         `json:"damage"`   // of the file, the first; empty if it is sound
	} `json:"frames"`
	RST struct {
		Generated int `json:"generated"` // packets, for idle and for unknown connections
	} `json:"rst"`
	ICMP struct {
		Generated int `json:"generated"` // errors
	} `json:"icmp"`
	Digest string `json:"digest"` // of all packets, verdicts, RSTs and errors: the same for the same run
}

// writeJSON prints the report as JSON.
func (r *report) writeJSON(w io.Writer) error {
	d := document{Complete: r.complete, Packets: r.packets, Reasons: make(map[string]int), Flows: r.flows}
	d.Verdicts.Forward, d.Verdicts.Bypass, d.Verdicts.Drop = r.forwarded, r.bypassed, r.dropped
	for reason := range flow.Reasons() {
		if n := r.reasons[reason]; n > 0 {
			d.Reasons[reason.String()] = n
		}
	}
	d.Roundtrip.Compared, d.Roundtrip.Different = r.compared, r.different
	d.Roundtrip.Identical, d.Roundtrip.Canonical = r.alike[identical], r.alike[canonical]
	d.Frames.Total, d.Frames.Cut, d.Frames.Skipped = r.content.Frames, r.content.Cut, r.content.Skipped
	d.Frames.Repaired, d.Frames.Untimed = r.repairs.Packets, r.content.Untimed
	if r.damage != nil {
		d.Frames.Damage = r.damage.Error()
	}
	d.RST.Generated, d.ICMP.Generated = r.resets, r.errors
	d.Digest = r.digest
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

// writeText prints the report for people.
func (r *report) writeText(p *page.Page) {
	o, t := r.options, (*page.Table)(nil)
	section := func(name string) {
		if t != nil {
			t.Print()
		}
		p.Section(name, "")
		t = p.Table("lrw")
	}
	row := func(name string, n int, remark string) { t.Row(name, page.Count(n), remark) }

	mood := page.Good
	if r.different > 0 || r.forwarded == 0 {
		mood = page.Bad
	}
	p.Headline(mood, "%s through %s, inside %v, frontends %v", o.in, o.preset, &o.inside, &o.frontends)
	if !r.complete {
		p.Note("Interrupted after %s of %s.", page.Count(r.packets), page.Plural(len(r.content.Packets), "packet"))
	}
	section("Frames")
	row("in the capture", r.content.Frames, "")
	for _, kind := range slices.Sorted(maps.Keys(r.content.Skipped)) {
		row("skipped", r.content.Skipped[kind], kind)
	}
	if r.content.Cut > 0 {
		row("cut", r.content.Cut, "The capture kept a part of them only (snap length): what is missing of a packet is taken for zeros.")
	}
	if r.repairs.Packets > 0 {
		row("repaired", r.repairs.Packets, r.repairs.String()+".")
	}
	if r.content.Untimed > 0 {
		row("untimed", r.content.Untimed, "The capture has no time from 1970 to 2242 for them: they keep their place in the file.")
	}
	if r.damage != nil {
		t.Row("damage", "", fmt.Sprintf("The file is not sound: %v.", r.damage))
	}
	section("Packets")
	row("forward", r.forwarded, "")
	row("bypass", r.bypassed, "")
	row("drop", r.dropped, "")
	row("all", r.packets, "")
	if r.dropped > 0 {
		section("Drops by reason")
		for reason := range flow.Reasons() {
			if n := r.reasons[reason]; n > 0 {
				row(reason.String(), n, reason.Sentence())
			}
		}
	}
	section("Translator")
	row("inside hosts", len(r.hosts), "")
	row("flows", r.flows, "")
	row("resets", r.resets, "RST packets made by the translator: for idle connections, and for segments of unknown ones.")
	row("ICMP errors", r.errors, "Made by the translator, too.")
	section("Round trip")
	row("compared", r.compared, "")
	row("identical", r.alike[identical], "")
	row("canonical", r.alike[canonical], "They differ only where any translator has to: see the package comment.")
	row("different", r.different, "")
	t.Print()
}
