// The answer for programs: one JSON object, or a line for each setting.

package answer

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// WriteJSON prints the answer as JSON.
func (a *Answer) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(a)
}

// ReadJSON reads what WriteJSON has printed, and nothing else.
func ReadJSON(r io.Reader) (*Answer, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var a Answer
	if err := d.Decode(&a); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the object")
	}
	return &a, nil
}

// column is a column of -csv: a number of a Result or of its total or peak. Its name stays. "abandoned" is that of
// peak.
type column struct {
	name string
	of   func(*Result) string
}

func whole[N int | uint64](of func(*Result) N) func(*Result) string {
	return func(r *Result) string { return fmt.Sprint(of(r)) }
}

func number(of func(*Result) float64) func(*Result) string {
	return func(r *Result) string { return strconv.FormatFloat(of(r), 'g', 6, 64) }
}

var columns = []column{
	{"conversations", whole(func(r *Result) uint64 { return r.Total.Conversations })},
	{"refused", whole(func(r *Result) uint64 { return r.Total.Refused })},
	{"refusedShare", number(func(r *Result) float64 { return r.Total.RefusedShare })},
	{"firstRefusedSeconds", func(r *Result) string {
		if r.Total.Refused == 0 {
			return ""
		}
		return strconv.FormatFloat(r.Total.FirstRefusedSeconds, 'g', 6, 64)
	}},
	{"peakShare", number(func(r *Result) float64 { return r.PeakShare })},
	{"failed", whole(func(r *Result) uint64 { return r.Total.Failed })},
	{"cut", whole(func(r *Result) uint64 { return r.Total.Cut })},
	{"broken", whole(func(r *Result) uint64 { return r.Total.Broken })},
	{"resets", whole(func(r *Result) uint64 { return r.Resets })},
	{"peakPorts", whole(func(r *Result) int { return r.Peak.Ports })},
	{"busy", whole(func(r *Result) int { return r.Peak.Busy })},
	{"idle", whole(func(r *Result) int { return r.Peak.Idle })},
	{"udp", whole(func(r *Result) int { return r.Peak.UDP })},
	{"udpWaiting", whole(func(r *Result) int { return r.Peak.UDPWaiting })},
	{"abandoned", whole(func(r *Result) int { return r.Peak.Abandoned })},
	{"heldFIN", whole(func(r *Result) int { return r.Peak.HeldFIN })},
	{"heldRST", whole(func(r *Result) int { return r.Peak.HeldRST })},
	{"heldUDP", whole(func(r *Result) int { return r.Peak.HeldUDP })},
	{"peakSeconds", number(func(r *Result) float64 { return r.PeakSeconds })},
	{"refusedPackets", whole(func(r *Result) uint64 { return r.Total.RefusedPackets })},
	{"noPort", whole(func(r *Result) uint64 { return r.Total.NoPort })},
	{"arrivals", whole(func(r *Result) uint64 { return r.Total.Arrivals })},
	{"cached", whole(func(r *Result) uint64 { return r.Total.Cached })},
	{"waited", whole(func(r *Result) uint64 { return r.Total.Waited })},
	{"retries", whole(func(r *Result) uint64 { return r.Total.Retries })},
	{"established", whole(func(r *Result) uint64 { return r.Total.Established })},
	{"exchanges", whole(func(r *Result) uint64 { return r.Total.Exchanges })},
	{"completed", whole(func(r *Result) uint64 { return r.Total.Completed })},
	{"outbound", whole(func(r *Result) uint64 { return r.Outbound })},
	{"inbound", whole(func(r *Result) uint64 { return r.Inbound })},
	{"outboundDropped", whole(func(r *Result) uint64 { return r.OutboundDropped })},
	{"inboundDropped", whole(func(r *Result) uint64 { return r.InboundDropped })},
}

// WriteCSV prints a line for each setting behind a header: first the one as it is, then those of the
// sweep, the recommended one, and the upgrade.
func (a *Answer) WriteCSV(w io.Writer) error {
	header := []string{"setting"}
	for _, c := range columns {
		header = append(header, c.name)
	}
	rows := [][]string{append(header, "error")}
	add := func(name string, r *Result, err string) {
		row := make([]string, len(columns)+2)
		row[0], row[len(row)-1] = name, err
		if r != nil {
			for i, c := range columns {
				row[1+i] = c.of(r)
			}
		}
		rows = append(rows, row)
	}
	add("as it is", &a.AsItIs, "")
	for _, r := range a.Sweep {
		add(r.Setting, r.Result, r.Error)
	}
	if r := a.Recommendation; r != nil {
		add("recommended "+r.Setting, &r.Result, "")
	}
	if u := a.Upgrade; u != nil {
		add("upgrade of "+u.Pool, &u.Result, "")
	}
	return csv.NewWriter(w).WriteAll(rows)
}
