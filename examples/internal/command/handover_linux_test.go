package command

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asCommand makes the test binary a command that hands over, or that draws.
const asCommand = "NATPLANE_TEST_COMMAND"

func TestMain(m *testing.M) {
	e := Elsewhere{Name: "other", Dir: "other", Option: "file"}
	switch os.Getenv(asCommand) {
	case "handover":
		Main(func(ctx context.Context, args []string, stdout, stderr io.Writer) (status int) {
			other := 0
			status = Run("x", stderr, func() error { return nil }, func() (err error) {
				other, err = e.HandOver(ctx, args, stdout, stderr)
				return err
			})
			return max(status, other)
		})
	case "filter":
		Main(func(ctx context.Context, _ []string, _, stderr io.Writer) int {
			return Run("x", stderr, func() error { return nil }, func() error {
				_, done, err := e.Filter(ctx, stderr)
				if err != nil {
					return err
				}
				return done()
			})
		})
	}
	os.Exit(m.Run())
}

// script returns one of the shell that says that it is there and then waits for a signal.
func script(says, signal string) string {
	return fmt.Sprintf("#!/bin/sh\ntrap 'kill -KILL $!; echo %s over; exit 130' %s\nsleep 60 &\necho %[1]s begun\nwait\n", says, signal)
}

// start starts the command in a directory of its own, with a go command that is a script, and what it takes for
// temporary files.
func start(t *testing.T, as, goCommand string, stderr *os.File) (cmd *exec.Cmd, stdout *bufio.Reader, temp string) {
	dir := t.TempDir()
	for _, name := range []string{"bin", "temp", "other"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other", "go.mod"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", "go"), []byte(goCommand), 0o700))
	temp = filepath.Join(dir, "temp")
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Dir, cmd.Stderr = dir, stderr
	cmd.Env = append(os.Environ(), asCommand+"="+as, "TMPDIR="+temp, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewReader(out), temp
}

// piped returns a file to write to, and what reads all that was written once it is closed.
func piped(t *testing.T) (w *os.File, text func() string) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	return w, func() string {
		require.NoError(t, w.Close())
		all, err := io.ReadAll(r)
		require.NoError(t, err)
		return string(all)
	}
}

// A signal ends a build, and what was built for; either is told as an interrupt, and nothing is left behind.
func TestSignals(t *testing.T) {
	building := strings.ReplaceAll(strings.ReplaceAll(script("build", "INT"), "echo", ">&2 echo"), "wait", "touch $GOTMPDIR/half\nwait")
	running := "#!/bin/sh\nfor last; do test \"$before\" = -o && to=$last; before=$last; done\ncat > $to <<'END'\n" + script("run", "TERM") + "END\nchmod +x $to\n"
	for _, c := range []struct {
		as, goCommand string
		signal        syscall.Signal
		stdout        string // all of it
		stderr        string // likewise
	}{
		{"handover", building, syscall.SIGINT, "", "build begun\nbuild over\nx: interrupted\n"},
		{"handover", building, syscall.SIGTERM, "", "build begun\nbuild over\nx: interrupted\n"},
		{"filter", building, syscall.SIGINT, "", "build begun\nbuild over\nx: interrupted\n"},
		{"filter", building, syscall.SIGTERM, "", "build begun\nbuild over\nx: interrupted\n"},
		{"handover", running, syscall.SIGINT, "run begun\nrun over\n", ""}, // the other command tells it
		{"handover", running, syscall.SIGTERM, "run begun\nrun over\n", ""},
	} {
		t.Run(fmt.Sprint(c.as, c.signal, c.stdout), func(t *testing.T) {
			stderr, complaints := piped(t)
			cmd, stdout, temp := start(t, c.as, c.goCommand, stderr)
			begun := ""
			if c.stdout != "" {
				begun, _ = stdout.ReadString('\n')
			} else {
				require.Eventually(t, func() bool {
					waiting, err := unix.IoctlGetInt(int(stderr.Fd()), unix.TIOCINQ)
					return err == nil && waiting > 0
				}, 30*time.Second, 5*time.Millisecond)
			}
			require.NoError(t, cmd.Process.Signal(c.signal))
			rest, err := io.ReadAll(stdout)
			require.NoError(t, err)
			_ = cmd.Wait() // its status is looked at
			assert.Equal(t, Interrupted, cmd.ProcessState.ExitCode())
			assert.Equal(t, []string{c.stdout, c.stderr}, []string{begun + string(rest), complaints()})
			left, err := os.ReadDir(temp)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// On a terminal it is said that something is built, for that may take a while.
func TestBuildsAreTold(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals: ", err)
	}
	defer terminal.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	stderr, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer stderr.Close()
	cmd, _, _ := start(t, "filter", "#!/bin/sh\n", stderr)
	require.NoError(t, cmd.Wait())
	line, err := bufio.NewReader(terminal).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "building other for -file: the first time that may take a minute\r\n", line)
}
