// Rules about imports: which room may know which, and what the core does not
// need of the standard library and of other modules.

package tidy

import (
	"fmt"
	"slices"
	"strings"
)

// floors orders the rooms: each imports only what lies below it. Packages of
// internal that drive the library instead of carrying it have a floor above it.
var floors = map[string]int{
	"internal": 0,
	"flow":     1,

	"snat/deterministic":               2,
	"snat/internal/placement":          2,
	"snat/internal/udp":                2,
	"snat/internal/fragments":          3,
	"snat/internal/icmp":               3,
	"snat/internal/ports/destinations": 2,
	"snat/internal/ports/holders":      2,
	"snat/internal/ports/subscribers":  2,
	"snat/internal/ports/chance":       2,
	"snat/internal/ports/shelves":      2,
	"snat/internal/ports/usage":        2,
	"snat/internal/ports/mappings":     3,
	"snat/internal/ports":              4,
	"snat/internal/addresses":          5,
	"snat/internal/counters":           5,
	"snat/internal/headers":            5,
	"snat/internal/heldsyn":            5,
	"snat/internal/resets":             5,
	"snat/internal/traffic":            5,
	"snat/internal/forwards":           6,
	"snat/internal/hop":                6,
	"snat/internal/permits":            6,
	"snat/internal/changes":            6,
	"snat/internal/compiled":           7,
	"snat/internal/instances":          8,
	"snat/internal/routing":            9,
	"snat/internal/dataplane":          10,
	"snat":                             11,

	"lb/internal/batch":              2,
	"lb/internal/claims":             12,
	"lb/internal/grants":             12,
	"lb/internal/health":             13,
	"lb/internal/owners":             2,
	"lb/internal/seats":              12,
	"lb/internal/sides":              2,
	"lb/nsg":                         2,
	"lb/probe":                       12,
	"lb":                             14,
	"overlay/internal/addressing":    2,
	"overlay/internal/annotations":   1,
	"overlay/internal/ranges":        2,
	"overlay/internal/podtable":      4,
	"overlay/internal/hostports":     2,
	"overlay/internal/kubeproxy":     2,
	"overlay/internal/rejects":       2,
	"overlay/internal/sums":          14,
	"overlay/internal/tallies":       14,
	"overlay/internal/admission":     14,
	"overlay/internal/claims":        14,
	"overlay/internal/conntrack":     14,
	"overlay/internal/security":      4,
	"overlay/internal/locality":      14,
	"overlay/internal/servicelb":     15,
	"overlay/internal/publicips":     15,
	"overlay/internal/vnet":          4,
	"overlay/internal/staticgateway": 15,
	"overlay/internal/explain":       16,
	"overlay/internal/fleet":         16,
	"overlay/internal/outbound":      15,
	"overlay/internal/portmap":       3,
	"overlay/internal/machine":       14,
	"overlay/ceilings":               2,
	"overlay/cni":                    2,
	"overlay":                        17,
	"overlay/apiserver":              18,
	"overlay/attribution":            18,
	"overlay/upgrade":                18,

	"overlay/whatif":                   18,
	"overlay/whatif/internal/agenda":   1,
	"overlay/whatif/internal/segments": 1,
	"overlay/whatif/trace":             2,

	"internal/digest":     2,
	"internal/rendezvous": 2,
	"internal/scenario":   18,
	"internal/router":     18,
	"internal/labs":       19,
	"internal/life":       19,

	"examples/internal/command": 20,
	"examples/internal/page":    20,

	"bench":    top,
	"examples": top,
}

// top is the floor that nothing imports.
const top = 21

// floorOf returns the floor of a directory: its own, or that of its room.
func floorOf(dir string) (floor int, ok bool) {
	if floor, ok = floors[dir]; !ok {
		room, _, _ := strings.Cut(dir, "/")
		floor, ok = floors[room]
	}
	return floor, ok
}

// testRooms are the packages for tests, benchmarks and examples only.
var testRooms = map[string]string{
	"internal/arbitrary":   "changes values by chance",
	"internal/scenario":    "plays stories for tests",
	"internal/digest":      "folds runs into numbers for comparison",
	"internal/conformance": "is a register for tests",
	"internal/tidy":        "reads the sources",
	"internal/netlab":      "builds networks in the kernel",
	"internal/pkttest":     "builds packets with gopacket",
	"internal/capture":     "reads and writes capture files",
	"internal/router":      "reads devices and the clock",
	"internal/labs":        "builds networks in the kernel",
	"internal/life":        "lives of clusters, for tests",
}

// leaves are packages that serve the user of a room: they know the room's public API,
// and the library does without them, but for the rooms that are named.
var leaves = map[string][]string{
	"lb/monitor":          {"lb", "overlay"},                                         // their types have metrics
	"snat/deterministic":  {"snat", "snat/internal/compiled", "snat/internal/ports"}, // an instance may have such a mapping
	"snat/forecast":       {"overlay/whatif"},                                        // results say what was foretold
	"snat/ipfix":          nil,
	"snat/requirements":   nil,
	"overlay/apiserver":   nil,
	"overlay/attribution": nil,
	"overlay/upgrade":     nil,
	"overlay/whatif":      nil,
	"snat/preset":         {"lb"}, // a NAT gateway is configured as the preset of that name
}

// needless are the imports that the core does without, each with its reason.
var needless = map[string]string{
	"crypto/rand":  "nothing that can be seen is random unless the seed decides it; only the key of a table, which nothing visible depends on, must be one that nobody can guess",
	"flag":         "configuration is a struct; flags belong to examples",
	"hash/maphash": "its seed is random, so results would differ between runs",
	"log":          "the caller decides what is printed; return errors, reasons and statistics",
	"log/slog":     "the caller decides what is printed; return errors, reasons and statistics",
	"math/rand":    "draw from a math/rand/v2 Rand seeded by the configuration",
	"net":          "addresses are net/netip; a simulator opens no sockets",
	"net/http":     "a simulator opens no sockets",
	"os/exec":      "a simulator starts no programs",
	"os/signal":    "signals belong to examples",
	"testing":      "tests live in _test.go files",
}

// unsafeRooms may import unsafe: they lay out memory or assert its size.
var unsafeRooms = []string{"internal/slab", "internal/index", "internal/wire", "flow", "snat/internal/fragments", "snat/internal/ports", "snat/internal/ports/destinations", "snat/internal/ports/holders", "snat/internal/ports/mappings", "snat/internal/ports/subscribers", "internal/snapshot"}

var importRules = []rule{
	{"floors", "import only packages of lower floors; move what both need down, or pass it in as an argument", checkFloors},
	{"inner rooms", "give the room a floor of its own below that of its owner, and take what it needs of its owner as arguments", checkInnerRooms},
	{"test rooms", "only tests, bench and examples may import it; move what the library needs to a package of its own", checkTestRooms},
	{"leaves", "a leaf is for users; move what the library needs of it to a room below", checkLeaves},
	{"needless imports", "see the reason given; outside the core (tests, bench, examples) the import is allowed", checkNeedless},
	{"cgo", "the module builds and tests without a C library; read captures with gopacket/pcapgo", checkCgo},
	{"gopacket", "the hot path works on internal/wire views; gopacket is for tests, internal/pkttest, bench and examples", checkThirdParty("github.com/google/gopacket")},
	{"testify", "testify is for tests", checkThirdParty("github.com/stretchr/testify")},
	{"unsafe", "keep unsafe in " + strings.Join(unsafeRooms, ", ") + ", behind functions that are safe to call", checkUnsafe},
}

// ours cuts an import path of this module to its directory.
func ours(to string) (dir string, ok bool) {
	if to == module {
		return ".", true
	}
	return strings.CutPrefix(to, module+"/")
}

// eachImport calls visit for the imports of files, in order, and collects what it
// has to say about them, with the place.
func (tr *tree) eachImport(files []*file, visit func(f *file, to string) string) (findings []string) {
	for _, f := range files {
		for _, to := range f.paths {
			if why := visit(f, to); why != "" {
				findings = append(findings, fmt.Sprintf("%s imports %s: %s", f.path, to, why))
			}
		}
	}
	return findings
}

func checkFloors(tr *tree) []string {
	return tr.eachImport(tr.files, func(f *file, to string) string {
		dir, ok := ours(to)
		if !ok || dir == f.dir || f.dir == "internal/tidy" && f.test { // an external test; the inspector
			return ""
		}
		room, _, _ := strings.Cut(dir, "/")
		from, ok1 := floorOf(f.dir)
		below, ok2 := floorOf(dir)
		switch {
		case !ok1 || !ok2:
			return "one of the two is in no room of the house"
		case below == top && !(f.room == room && sameStory(f.dir, dir)):
			return room + " is imported by nothing"
		case room == f.room && below <= from: // leaves beside each other; Go forbids cycles
			return ""
		case below >= from:
			return fmt.Sprintf("%s is on floor %d, %s on floor %d", f.dir, from, dir, below)
		}
		return ""
	})
}

// checkInnerRooms holds the rooms inside of a room to strictly lower floors: each has one
// of its own, and imports nothing of its owner's that is not below it.
func checkInnerRooms(tr *tree) (findings []string) {
	inner := func(dir string) bool {
		return strings.Contains(dir, "/internal/") && !strings.HasPrefix(dir, "internal/") && !strings.HasPrefix(dir, "examples/") && !strings.HasPrefix(dir, "bench/")
	}
	for _, f := range tr.files {
		if own, ok := floors[f.dir]; inner(f.dir) && (!ok || own >= floors[f.room]) {
			findings = append(findings, fmt.Sprintf("%s: %s has no floor of its own below that of %s", f.path, f.dir, f.room))
		}
	}
	return append(findings, tr.eachImport(tr.files, func(f *file, to string) string {
		dir, ok := ours(to)
		if !ok || !inner(f.dir) || dir == f.dir || !strings.HasPrefix(dir+"/", f.room+"/") {
			return ""
		}
		if from, _ := floorOf(f.dir); !f.test {
			if below, _ := floorOf(dir); below >= from {
				return fmt.Sprintf("%s is on floor %d, %s on floor %d", f.dir, from, dir, below)
			}
		}
		return ""
	})...)
}

// sameStory reports whether both directories belong to bench, or to one example.
func sameStory(a, b string) bool {
	story := func(dir string) string {
		parts := strings.SplitN(dir, "/", 3)
		return strings.Join(parts[:min(len(parts), 2)], "/")
	}
	return strings.HasPrefix(a, "bench") || story(a) == story(b)
}

func checkTestRooms(tr *tree) []string {
	return tr.eachImport(tr.core(), func(f *file, to string) string {
		if dir, ok := ours(to); ok && testRooms[dir] != "" {
			return "that package " + testRooms[dir]
		}
		return ""
	})
}

func checkLeaves(tr *tree) []string {
	return tr.eachImport(tr.core(), func(f *file, to string) string {
		dir, ok := ours(to)
		if may, leaf := leaves[dir]; ok && leaf && !slices.Contains(may, f.dir) {
			return "the library does without that leaf"
		}
		return ""
	})
}

// secrets is the file that may draw from the system: the hash key of tables.
const secrets = "flow/hash.go"

func checkNeedless(tr *tree) []string {
	return tr.eachImport(tr.core(), func(f *file, to string) string {
		if to == "crypto/rand" && f.path == secrets {
			return ""
		}
		return needless[to]
	})
}

func checkCgo(tr *tree) []string {
	return tr.eachImport(tr.files, func(_ *file, to string) string {
		if to == "C" || to == "github.com/google/gopacket/pcap" {
			return "it needs cgo"
		}
		return ""
	})
}

func checkThirdParty(mod string) func(*tree) []string {
	return func(tr *tree) []string {
		return tr.eachImport(tr.core(), func(f *file, to string) string {
			if to == mod || strings.HasPrefix(to, mod+"/") {
				return "not in the core"
			}
			return ""
		})
	}
}

func checkUnsafe(tr *tree) []string {
	return tr.eachImport(tr.core(), func(f *file, to string) string {
		if to == "unsafe" && !slices.Contains(unsafeRooms, f.dir) {
			return "not in this room"
		}
		return ""
	})
}

var importCases = []biteCase{
	{"floors", "up", map[string]string{
		"flow/a.go":                    "package flow\nimport _ \"" + module + "/snat\"",
		"internal/wire/a.go":           "package wire\nimport _ \"" + module + "/flow\"",
		"internal/slab/a.go":           "package slab\nimport _ \"" + module + "/internal/router\"",
		"snat/a_test.go":               "package snat\nimport _ \"" + module + "/lb\"",
		"snat/internal/fragments/a.go": "package fragments\nimport _ \"" + module + "/snat\"",
	}, []string{"flow/a.go", "internal/slab/a.go", "internal/wire/a.go", "snat/a_test.go", "snat/internal/fragments/a.go"}},
	{"floors", "down and beside", map[string]string{
		"snat/a.go":            "package snat\nimport (\n_ \"" + module + "/flow\"\n_ \"" + module + "/internal/wire\"\n)",
		"snat/a_test.go":       "package snat_test\nimport _ \"" + module + "/snat\"",
		"internal/slab/a.go":   "package slab\nimport _ \"" + module + "/internal/bitmap\"",
		"internal/router/a.go": "package router\nimport _ \"" + module + "/overlay\"",
		"examples/egress/a.go": "package main\nimport _ \"" + module + "/overlay\"",
	}, nil},
	{"floors", "top", map[string]string{
		"bench/a.go":         "package bench\nimport _ \"" + module + "/examples/egress\"",
		"examples/one/a.go":  "package main\nimport _ \"" + module + "/examples/two/x\"",
		"examples/two/a.go":  "package main\nimport _ \"" + module + "/examples/two/x\"",
		"overlay/a_test.go":  "package overlay\nimport _ \"" + module + "/bench\"",
		"bench/b/a_test.go":  "package b\nimport _ \"" + module + "/bench/load\"",
		"cellar/unlisted.go": "package cellar\nimport _ \"" + module + "/flow\"",
	}, []string{"bench/a.go", "cellar/unlisted.go", "examples/one/a.go", "overlay/a_test.go"}},
	{"floors", "nested module", map[string]string{
		"bench/peers/go.mod":  "module x",
		"bench/peers/x/a.go":  "package x\nimport _ \"" + module + "/bench\"",
		"examples/p/a/go.mod": "module y",
		"examples/p/a/a.go":   "package y\nimport _ \"" + module + "/examples/q\"",
	}, nil},
	{"inner rooms", "up, beside, and without a floor", map[string]string{
		"snat/internal/icmp/a.go":  "package icmp\nimport _ \"" + module + "/snat\"",
		"snat/internal/ports/a.go": "package ports\nimport (\n_ \"" + module + "/snat/internal/ports/x\"\n_ \"" + module + "/flow\"\n)",
		"snat/internal/attic/a.go": "package attic",
		"snat/a.go":                "package snat\nimport _ \"" + module + "/snat/internal/ports\"",
	}, []string{"snat/internal/attic has no floor", "snat/internal/icmp/a.go imports", "snat/internal/ports/a.go imports"}},
	{"test rooms", "library", map[string]string{
		"flow/a.go":            "package flow\nimport _ \"" + module + "/internal/pkttest\"",
		"flow/a_test.go":       "package flow\nimport _ \"" + module + "/internal/pkttest\"",
		"examples/egress/a.go": "package main\nimport _ \"" + module + "/internal/netlab\"",
	}, []string{"flow/a.go"}},
	{"leaves", "library", map[string]string{
		"lb/a.go":            "package lb\nimport _ \"" + module + "/snat/preset\"",
		"overlay/a.go":       "package overlay\nimport _ \"" + module + "/snat/preset\"",
		"snat/a_test.go":     "package snat_test\nimport _ \"" + module + "/snat/preset\"",
		"examples/one/a.go":  "package main\nimport _ \"" + module + "/snat/preset\"",
		"snat/internal/a.go": "package internal\nimport _ \"" + module + "/snat/preset\"",
	}, []string{"overlay/a.go", "snat/internal/a.go"}},
	{"needless imports", "chance", map[string]string{
		"flow/hash.go": "package flow\nimport _ \"crypto/rand\"",
		"snat/a.go":    "package snat\nimport _ \"crypto/rand\"",
		"snat/hash.go": "package snat\nimport _ \"math/rand\"",
	}, []string{"snat/a.go imports crypto/rand: nothing", "snat/hash.go imports math/rand: draw"}},
	{"needless imports", "sockets", map[string]string{
		"lb/a.go":      "package lb\nimport (\n_ \"net\"\n_ \"net/netip\"\n_ \"math/rand\"\n_ \"math/rand/v2\"\n)",
		"lb/a_test.go": "package lb\nimport _ \"os/exec\"",
		"bench/a.go":   "package bench\nimport _ \"flag\"",
	}, []string{"imports math/rand:", "imports net:"}},
	{"cgo", "capture", map[string]string{
		"bench/a.go":         "package bench\nimport _ \"github.com/google/gopacket/pcapgo\"",
		"examples/one/a.go":  "package main\nimport _ \"github.com/google/gopacket/pcap\"",
		"internal/slab/a.go": "package slab\nimport \"C\"",
	}, []string{"examples/one/a.go", "internal/slab/a.go"}},
	{"gopacket", "core", map[string]string{
		"snat/a.go":             "package snat\nimport _ \"github.com/google/gopacket/layers\"",
		"snat/a_test.go":        "package snat\nimport _ \"github.com/google/gopacket/layers\"",
		"internal/pkttest/a.go": "package pkttest\nimport _ \"github.com/google/gopacket\"",
	}, []string{"snat/a.go"}},
	{"testify", "core", map[string]string{
		"snat/a.go":      "package snat\nimport _ \"github.com/stretchr/testify/assert\"",
		"snat/a_test.go": "package snat\nimport _ \"github.com/stretchr/testify/assert\"",
	}, []string{"snat/a.go"}},
	{"unsafe", "rooms", map[string]string{
		"lb/a.go":            "package lb\nimport _ \"unsafe\"",
		"internal/slab/a.go": "package slab\nimport _ \"unsafe\"",
	}, []string{"lb/a.go"}},
}
