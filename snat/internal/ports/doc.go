// Package ports knows who has which port. It chooses the outside port of a new
// flow, keeps it as long as somebody uses it, and lets it go.
//
// It refuses to know packets, routes, realms, fragments and what configurations
// look like: the translator in package snat compiles what this package needs.
package ports
