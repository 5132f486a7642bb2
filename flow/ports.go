package flow

import "fmt"

// SystemPorts is the number of ports below the registered and dynamic ones (RFC 6335
// section 6).
const SystemPorts = 1024

// PortSpan is the ports from First to Last, both included.
type PortSpan struct {
	First, Last uint16 // First is not above Last
}

// String formats s as "1024-5055".
func (s PortSpan) String() string { return fmt.Sprintf("%d-%d", s.First, s.Last) }
