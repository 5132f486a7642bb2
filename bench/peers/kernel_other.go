//go:build !linux

package main

// kernelPeers are none: it is Linux that is compared.
func kernelPeers() []peer { return nil }
