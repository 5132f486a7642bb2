package snat

import (
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// instance is the state of one Instance: what it has of ports, and what it does without
// them. It lives in one shard.
type instance struct {
	ports.Instance

	deltas [2]wire.Delta // of checksums, own to public address, by family
	direct *direct       // kept when the instance is configured anew
	alarms *alarms       // likewise
}
