package command

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
)

// MostDropped returns an error that tells why most of so many packets were dropped.
func MostDropped(reasons *[flow.NumReasons]int, packets int) error {
	most := flow.Reason(0)
	for reason := range flow.Reasons() {
		if reasons[reason] > reasons[most] {
			most = reason
		}
	}
	return fmt.Errorf("most packets were dropped as %v, %d of %d: %s", most, reasons[most], packets, most.Sentence())
}
