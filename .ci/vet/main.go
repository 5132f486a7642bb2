// Command vet runs the checks of go vet on packages that nobody compiles: it reads them and all
// that they import from their sources, which takes a tenth of the time where a whole platform,
// with the standard library, would have to be compiled for a look at it.
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"
	"golang.org/x/tools/go/analysis/suite/vet"
)

func main() { multichecker.Main(vet.Suite...) }
