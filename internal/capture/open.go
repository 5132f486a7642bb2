// Files that are read and written may be more than files: pipes and devices, which
// may keep a program waiting for ever, and links to others.

package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Stdin is the name that Load takes for the standard input.
const Stdin = "-"

// The most that is read of a file, and of what does not tell its length, in bytes.
const (
	maxFile     = min(16<<30, math.MaxInt/2)
	maxStreamed = 1 << 30
)

// Load returns the bytes of a capture file, to be understood by Read or Salvage. Of a
// file that grows it returns as much as there was when it was opened. Of a pipe or
// a device, or the standard input, it returns all up to the end, which must come
// within a gigabyte; if they do not begin as a capture does, a few bytes. It ends
// when ctx does, with the error of that, also while it waits. Errors do not repeat
// the name.
func Load(ctx context.Context, name string) ([]byte, error) {
	b, err := load(ctx, name)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	return b, err
}

func load(ctx context.Context, name string) ([]byte, error) {
	f := os.Stdin
	if name != Stdin {
		var err error
		if f, err = open(ctx, name, os.O_RDONLY); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if size := info.Size(); info.Mode().IsRegular() && size > 0 {
		if size > maxFile {
			return nil, fmt.Errorf("has %d bytes, more than %d", size, maxFile)
		}
		b := make([]byte, size)
		n, err := io.ReadFull(f, b)
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			err = nil // it has become shorter, or was not at its beginning
		}
		return b[:n], err
	}
	return stream(ctx, f)
}

// stream reads what does not tell its length.
func stream(ctx context.Context, f *os.File) ([]byte, error) {
	type result struct {
		bytes []byte
		err   error
	}
	done := make(chan result, 1)
	go func() { // not all that can be read has deadlines
		var all bytes.Buffer
		_, err := io.CopyN(&all, f, 4)
		if err == nil && recognized(all.Bytes()) {
			_, err = io.CopyN(&all, f, maxStreamed)
			if err == nil {
				err = fmt.Errorf("has more than %d bytes and is no file; save it to one first", maxStreamed)
			}
		}
		if err == io.EOF {
			err = nil
		}
		done <- result{all.Bytes(), err}
	}()
	select {
	case r := <-done:
		return r.bytes, r.err
	case <-ctx.Done():
		_ = f.SetReadDeadline(time.Unix(1, 0)) // if it has them
		return nil, ctx.Err()
	}
}

// open is os.OpenFile without O_CREATE that ends when ctx does: to open a pipe waits
// for the other end.
func open(ctx context.Context, name string, flag int) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result, 1)
	go func() {
		f, err := os.OpenFile(name, flag, 0)
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		return r.file, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.file.Close() // nothing was read or written
			}
		}()
		return nil, ctx.Err()
	}
}

// target follows links to the name of the file that they are for, which need not exist.
func target(name string) (string, error) {
	const most = 40 // as Linux
	for range most {
		info, err := os.Lstat(name)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return name, nil // what is wrong with it shows when it is created
		}
		to, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(name), to)
		}
		name = to
	}
	return "", fmt.Errorf("%s: more than %d links", name, most)
}
