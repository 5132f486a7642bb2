package lb_test

import (
	"bytes"
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
)

// A load balancer is written, and what is restored goes on: a flow keeps its port, and a new one
// gets the port that it would have got.
func ExampleRestore() {
	l, err := lb.New(twoNodes())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(twoPods(flow.At(0), l.Outbound, 41000))
	var file bytes.Buffer
	if err := l.Snapshot(&file); err != nil {
		fmt.Println(err)
		return
	}
	config := l.Config() // belongs to it
	l.Close()

	restored, err := lb.Restore(config, &file)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer restored.Close()
	fmt.Println(twoPods(flow.At(0), restored.Outbound, 41000))
	fmt.Println(twoPods(flow.At(0), restored.Outbound, 41001))
	// Output:
	// [20.50.1.1:1024 20.50.1.1:2048]
	// [20.50.1.1:1024 20.50.1.1:2048]
	// [20.50.1.1:1025 20.50.1.1:2049]
}
