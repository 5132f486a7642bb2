package conformance

import "strings"

// planned are the rows whose tests are still to come.
var planned = strings.Fields(`
`)
