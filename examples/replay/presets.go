// The translators that -preset offers.

package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/snat"
)

// presets turn the zero Config, without instances yet, into the translator of
// that name.
var presets = map[string]func(*snat.Config){
	"azure-lb": func(*snat.Config) {}, // the defaults of a Config are those of an Azure outbound rule
}

// presetNames lists the presets for people.
func presetNames() string { return strings.Join(slices.Sorted(maps.Keys(presets)), ", ") }
