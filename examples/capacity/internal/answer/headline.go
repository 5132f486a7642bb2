// The headline: what happens as it is, what to change, and why, in a sentence each.

package answer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// Headline is what a reader in a hurry needs.
type Headline struct {
	Good    bool     `json:"good"`    // nothing is refused, cut or broken as it is
	Verdict string   `json:"verdict"` // what happens as it is
	Change  string   `json:"change"`  // what to change and what that comes to; "" if the run cannot tell
	Why     string   `json:"why"`     // it happens; "" if nothing does
	Before  Figures  `json:"before"`
	After   *Figures `json:"after"` // of the change; null without one
}

// Figures are those of a setting that a reader compares first.
type Figures struct {
	Setting       string  `json:"setting"`
	Conversations uint64  `json:"conversations"`
	Refused       uint64  `json:"refused"`
	Ended         uint64  `json:"ended"` // cut or broken after an idle timeout
	PeakShare     float64 `json:"peakShare"`
}

func figures(setting string, r *Result) Figures {
	return Figures{setting, r.Total.Conversations, r.Total.Refused, r.Total.Ended(), r.PeakShare}
}

// Conclude writes the headline of what has been found.
func (a *Answer) Conclude() {
	t := &a.AsItIs.Total
	h := Headline{Good: t.Refused == 0 && t.Ended() == 0, Verdict: verdict(&a.AsItIs), Before: figures("as it is", &a.AsItIs)}
	if !h.Good {
		h.Why = a.why()
	}
	switch best := a.bestRow(); {
	case a.Recommendation != nil:
		a.judge()
		after := figures(a.Recommendation.Setting, &a.Recommendation.Result)
		h.After, h.Change = &after, a.recommended(h.Good)
	case best != nil && (!h.Good || a.Story != nil):
		after := figures(best.Setting, best.Result)
		h.After, h.Change = &after, fmt.Sprintf("Of the settings tried, %s does it: %s.", best.Setting, outcome(best.Result, &a.AsItIs))
		if a.Story != nil {
			h.Change = fmt.Sprintf("With %s: %s.", best.Setting, outcome(best.Result, &a.AsItIs))
		}
		if best.Result.lost() > 0 {
			h.Change = a.closest(best)
		}
	case h.Good:
		h.Change = "Nothing has to change."
	case a.NoSetting != "":
		h.Change = "More ports alone do not help; there is " + a.NoSetting + "."
	}
	a.Headline = h
}

// verdict says what happens in a simulation.
func verdict(r *Result) string {
	t := &r.Total
	of := page.Plural(t.Conversations, "conversation")
	switch {
	case t.Refused > 0:
		return fmt.Sprintf("%s of %s refused, the first after %s", page.Count(t.Refused), of, Duration(t.FirstRefusedSeconds))
	case t.Ended() > 0:
		return fmt.Sprintf("none of %s refused, %s cut or broken", of, page.Count(t.Ended()))
	}
	return fmt.Sprintf("none of %s refused", of)
}

// outcome says what a setting comes to, beside what there is.
func outcome(r, now *Result) string {
	text := fmt.Sprintf("%s of %s refused", amount(r.Total.Refused), page.Plural(r.Total.Conversations, "conversation"))
	if now.Total.Refused != r.Total.Refused {
		text += " instead of " + page.Count(now.Total.Refused)
	}
	if was, is := now.Total.Ended(), r.Total.Ended(); was != is || is > 0 {
		text += fmt.Sprintf(", %s cut or broken instead of %s", amount(is), page.Count(was))
	}
	return text + fmt.Sprintf(", and the fullest node at %s of its ports instead of %s", page.Percent(r.PeakShare), page.Percent(now.PeakShare))
}

func amount(n uint64) string {
	if n == 0 {
		return "none"
	}
	return page.Count(n)
}

// lost returns how many conversations were refused, cut or broken.
func (r *Result) lost() uint64 { return r.Total.Refused + r.Total.Ended() }

// bestRow returns the setting of the sweep that loses the fewest conversations, the first of several; nil
// if there are no results.
func (a *Answer) bestRow() (best *Row) {
	for i := range a.Sweep {
		if r := &a.Sweep[i]; r.Result != nil && (best == nil || r.Result.lost() < best.Result.lost()) {
			best = r
		}
	}
	return best
}

// closest says what the best setting of the sweep comes to, which is not enough, and which others come to the same.
func (a *Answer) closest(best *Row) string {
	comesTo := outcome(best.Result, &a.AsItIs)
	results := 0
	var alike []string
	for i := range a.Sweep {
		if r := &a.Sweep[i]; r.Result != nil {
			results++
			if outcome(r.Result, &a.AsItIs) == comesTo {
				alike = append(alike, r.Setting)
			}
		}
	}
	helps := best.Result.lost() < a.AsItIs.lost()
	var text string
	switch {
	case !helps && results == 1:
		text = best.Setting + " is no better than what is set"
	case !helps:
		text = "None of the settings tried is better than what is set; " + best.Setting + " comes to this"
	case results == 1:
		text = best.Setting + " is not enough"
	case len(alike) == results:
		text = "None of the settings tried is enough; all come to the same"
	case len(alike) == 1:
		text = "None of the settings tried is enough; " + best.Setting + " comes closest"
	case len(alike) == 2:
		text = "None of the settings tried is enough; " + strings.Join(alike, " and ") + " come closest, alike"
	default:
		text = fmt.Sprintf("None of the settings tried is enough; %s and %s come closest, alike", best.Setting, page.Plural(len(alike)-1, "other"))
	}
	return text + ": " + comesTo + "."
}

// recommended says what to set instead of what there is.
func (a *Answer) recommended(good bool) string {
	r, c := a.Recommendation, &a.Cluster
	var set []string
	only := !good && a.fault(&a.AsItIs) != "" // what is needed
	if r.PortsPerNode != c.PortsPerNode && !(only && r.PortsPerNode < c.PortsPerNode) {
		set = append(set, fmt.Sprintf("give each node %s SNAT ports instead of %s", page.Count(r.PortsPerNode), page.Count(c.PortsPerNode)))
	}
	if r.IPs != c.IPs && !(only && r.IPs < c.IPs) {
		set = append(set, fmt.Sprintf("take %s instead of %s", page.Plural(r.IPs, "outbound IP"), page.Count(c.IPs)))
	}
	if r.IdleSeconds != c.IdleSeconds && !(only && a.idleIsFree()) {
		set = append(set, fmt.Sprintf("set the idle timeout to %s instead of %s", Duration(r.IdleSeconds), Duration(c.IdleSeconds)))
	}
	if len(set) == 0 {
		return "Nothing has to change: what is set is what is recommended."
	}
	text := strings.Join(set, ", and ")
	if fault := a.fault(&a.AsItIs); good && fault != "" {
		return fmt.Sprintf("What is set %s. To keep %d %% of them free, %s: %s.", fault, a.Settings.HeadroomPercent, text, outcome(&r.Result, &a.AsItIs))
	}
	if good {
		return fmt.Sprintf("Nothing has to change. The cheapest setting, with %d %% of the ports kept free, is to %s: %s.", a.Settings.HeadroomPercent, text, outcome(&r.Result, &a.AsItIs))
	}
	text = sentence(text + ": " + outcome(&r.Result, &a.AsItIs))
	for _, free := range r.Free {
		text += " " + sentence(free)
	}
	return text
}

// sentence makes a sentence of a text.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

// why says what holds the ports, or what ends conversations.
func (a *Answer) why() string {
	u := a.AsItIs.Peak
	uses := slices.DeleteFunc(u.List(), func(x Use) bool { return x.N == 0 })
	slices.SortStableFunc(uses, func(x, y Use) int { return y.N - x.N })
	var parts []string
	for _, x := range uses[:min(len(uses), 3)] {
		if x.N*10 >= u.Flows() {
			parts = append(parts, fmt.Sprintf("%s by %s", page.Percent(float64(x.N)/float64(u.Flows())), x.Whose))
		}
	}
	text := ""
	if a.AsItIs.Total.Refused > 0 && len(parts) > 0 {
		text = "At the peak ports were held " + strings.Join(parts, "; ") + "."
	}
	if n := a.AsItIs.Total.Ended(); n > 0 {
		if text != "" {
			text += " "
		}
		text += fmt.Sprintf("%s rested for longer than the idle timeout of %s.", page.Plural(n, "conversation"), Duration(a.Cluster.IdleSeconds))
	}
	return text
}

// Duration writes seconds as people do.
func Duration(seconds float64) string {
	return page.Short(time.Duration(seconds * float64(time.Second)))
}
