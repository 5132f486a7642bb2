// Closed forms: what can be said without a simulation, for one destination and a steady rate.

package whatif

import "time"

// Sustained returns how many new flows per second to one destination a number of ports sustains,
// if each flow occupies its port for the duration of the flow and then a hold: ports / (duration +
// hold). 1,024 ports sustain 15.75 a second with a hold of 65 s, and 0.57 where flows leak until
// an idle timeout of 30 min. Flows to several destinations may share a port, so each destination
// has as much. It returns 0 unless ports and the sum of both times are above 0.
func Sustained(ports int, duration, hold time.Duration) float64 {
	if ports <= 0 || duration+hold <= 0 {
		return 0
	}
	return float64(ports) / (duration + hold).Seconds()
}

// Exhaustion returns when the first flow is refused if from an empty state on there are evenly
// rate flows per second to one destination: after ports / rate, and ok is false if that is never,
// because the ports sustain it.
func Exhaustion(ports int, rate float64, duration, hold time.Duration) (after time.Duration, ok bool) {
	if ports <= 0 || !(rate > Sustained(ports, duration, hold)) {
		return 0, false
	}
	return time.Duration(float64(ports) / rate * float64(time.Second)), true
}
