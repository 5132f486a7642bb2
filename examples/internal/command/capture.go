package command

import (
	"context"
	"flag"
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// Load returns the bytes of the capture that a flag names, or of the standard input
// for -. Errors are in terms of the flag.
func Load(ctx context.Context, option, name string) ([]byte, error) {
	file, err := capture.Load(ctx, name)
	if err != nil {
		return nil, Failed(ctx, fmt.Errorf("-%s %s: %w", option, name, err))
	}
	return file, nil
}

// Failed returns err, or ErrInterrupted if what failed did so because ctx is over; nil
// stays nil.
func Failed(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}

// ChecksumsFlag defines the flag -checksums.
func ChecksumsFlag(fs *flag.FlagSet, c *capture.Checksums) {
	fs.TextVar(c, "checksums", capture.RepairOffloaded, "`which` wrong checksums to compute before anything else: auto those that were not computed yet when the capture was made, on the host that sent the packets (offloading); repair all; keep all as they are")
}
