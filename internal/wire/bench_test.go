package wire

import (
	"encoding/hex"
	"testing"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// pad returns b in a buffer of 64 bytes, as a short Ethernet frame leaves it.
func pad(b []byte) []byte { return append(b, make([]byte, 64-len(b))...) }

var benchPackets = []struct {
	name string
	b    []byte
}{
	{"ip=4/proto=tcp", pad(unhex("450000280000400040060692c63364070a00000401bb9c4055667788000000005004000010b80000"))},
	{"ip=4/proto=udp", pad(unhex("450000211c4640004011ea470a000004c633640710920035000d76fc68656c6c6f"))},
	{"ip=6/proto=tcp", pad(unhex("600000000014064020010db8000500000000000000000007fd00000000000000000000000000000401bb9c405566778800000000500400001a2d0000"))},
}

func BenchmarkParse(b *testing.B) {
	for _, bc := range benchPackets {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			var p Packet
			for b.Loop() {
				if problem := Parse(bc.b, &p); problem != OK {
					b.Fatal(problem)
				}
			}
		})
	}
}

func BenchmarkVerifyL4(b *testing.B) {
	for _, bc := range benchPackets {
		b.Run(bc.name, func(b *testing.B) {
			var p Packet
			if problem := Parse(bc.b, &p); problem != OK {
				b.Fatal(problem)
			}
			for b.Loop() {
				if !VerifyL4(&p) {
					b.Fatal("checksum")
				}
			}
		})
	}
}
