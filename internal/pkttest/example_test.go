package pkttest_test

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func ExampleTCP() {
	b := pkttest.TCP("10.0.0.4:40000", "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1))
	fmt.Println(pkttest.String(b))
	b = pkttest.TCP("[fd00::4]:40000", "[2001:db8:5::7]:443", pkttest.TCPFlags("PA"), pkttest.Payload("GET /"))
	fmt.Println(pkttest.String(b))
	// Output:
	// TCP 10.0.0.4:40000 > 198.51.100.7:443 S seq=1 len=0
	// TCP [fd00::4]:40000 > [2001:db8:5::7]:443 PA seq=0 ack=0 len=5
}
