// Package tidy holds the house rules as tests: which room may import which,
// which calls the core does without, what is documented, and what the module's
// root, dependencies and files look like. Every finding names its remedy.
//
// It reads source text only (go/parser, no type checking), so that one pass over
// the module takes well under two seconds, and it knows no room from inside.
// Modules nested in this one answer for themselves, except for what their text
// may say.
package tidy
