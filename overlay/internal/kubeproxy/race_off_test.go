//go:build !race

package kubeproxy_test

const raceEnabled = false
