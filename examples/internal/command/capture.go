package command

import (
	"context"
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// Load returns the bytes of the capture that a flag names, or of the standard input
// for -. Errors are in terms of the flag.
func Load(ctx context.Context, flag, name string) ([]byte, error) {
	file, err := capture.Load(ctx, name)
	if err != nil {
		return nil, Failed(ctx, fmt.Errorf("-%s %s: %w", flag, name, err))
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
