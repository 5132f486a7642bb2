package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// File is a file that has been read.
type File struct {
	Name string // as the command line has it, or below a directory of it
	Data []byte // at most 64 MiB and a byte
}

// maxFile is what is read of a file: a byte more than its readers bear.
const maxFile = 64<<20 + 1

// Files reads the files of YAML and JSON that a flag names; a directory is all its files *.yaml,
// *.yml and *.json, as kubectl apply -f takes them, and - the standard input. The error has all
// that cannot be read, in terms of the flag.
func Files(option string, names ...string) ([]File, error) {
	var files []File
	var errs []error
	for _, name := range names {
		all, err := within(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("-%s %s: %w", option, name, err))
		}
		for _, name := range all {
			data, err := read(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("-%s %s: %w", option, name, err))
			}
			files = append(files, File{Name: name, Data: data})
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return files, nil
}

// within returns the files of a directory that may be of use; of what is no directory the name
// itself.
func within(name string) (files []string, err error) {
	if is, err := os.Stat(name); name == "-" || err != nil || !is.IsDir() {
		return []string{name}, nil // whether it is there, reading tells
	}
	entries, err := os.ReadDir(name)
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if err == nil && len(files) == 0 {
		err = errors.New("the directory has no file *.yaml, *.yml or *.json")
	}
	return files, err
}

// read returns a file, but not much more than may be of use; - is the standard input.
func read(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxFile))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(f, maxFile))
}
