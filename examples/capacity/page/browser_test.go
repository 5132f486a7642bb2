package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is a Chromium without a screen, driven by the DevTools protocol over a pipe: objects of
// JSON, each behind the last by a NUL.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	session string
	last    int
	events  []event // since the page was loaded
}

// event is what a browser says: the answer to a command, or what happens.
type event struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// newBrowser starts Chromium; where there is none the test is skipped, but not in CI.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("chromium is not installed")
	}
	theirsIn, to, err := os.Pipe()
	require.NoError(t, err)
	from, theirsOut, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--disable-background-networking", "--no-first-run", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirsIn, theirsOut} // 3 and 4
	require.NoError(t, cmd.Start())
	_, _ = theirsIn.Close(), theirsOut.Close()
	late := time.AfterFunc(4*time.Minute, func() { _ = cmd.Process.Kill() }) // a machine may be busy
	b := &browser{t: t, to: to, from: bufio.NewReaderSize(from, 1<<20)}
	t.Cleanup(func() {
		late.Stop()
		b.session = ""
		if !t.Failed() {
			b.do("Browser.close", map[string]any{})
		} else {
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		_, _ = to.Close(), from.Close()
	})
	var target struct{ TargetID string }
	b.decode(b.do("Target.createTarget", map[string]any{"url": "about:blank"}), &target)
	var attached struct{ SessionID string }
	b.decode(b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}), &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Runtime", "Log"} {
		b.do(domain+".enable", map[string]any{})
	}
	return b
}

func (b *browser) decode(data json.RawMessage, to any) {
	b.t.Helper()
	require.NoError(b.t, json.Unmarshal(data, to), "%s", data)
}

// do gives a command and waits for its answer.
func (b *browser) do(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	b.last++
	command := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	text, err := json.Marshal(command)
	require.NoError(b.t, err)
	_, err = b.to.Write(append(text, 0))
	require.NoError(b.t, err)
	for {
		if e := b.next(); e.ID == b.last {
			require.Nil(b.t, e.Error, "%s: %v", method, e.Error)
			return e.Result
		}
	}
}

// next returns what the browser says next.
func (b *browser) next() (e event) {
	b.t.Helper()
	text, err := b.from.ReadBytes(0)
	require.NoError(b.t, err, "the browser says no more")
	b.decode(text[:len(text)-1], &e)
	if e.ID == 0 {
		b.events = append(b.events, e)
	}
	return e
}

// open loads a file on a screen of a width and a scheme of colours.
func (b *browser) open(file string, width int, scheme string) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
	b.events = nil
	b.do("Page.navigate", map[string]any{"url": "file://" + filepath.ToSlash(file)})
	for !b.happened("Page.loadEventFired") {
		b.next()
	}
}

func (b *browser) happened(method string) bool {
	for _, e := range b.events {
		if e.Method == method {
			return true
		}
	}
	return false
}

// troubles returns what the browser has complained about, and what it has asked for besides the
// file.
func (b *browser) troubles(file string) (all []string) {
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
			all = append(all, string(e.Params))
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			b.decode(e.Params, &p)
			if url := p.Request.URL; url != "file://"+filepath.ToSlash(file) && !strings.HasPrefix(url, "data:") {
				all = append(all, "asks for "+url)
			}
		}
	}
	return all
}

// evaluate runs an expression in the page and decodes its value.
func (b *browser) evaluate(expression string, to any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.decode(b.do("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}), &r)
	require.Empty(b.t, r.ExceptionDetails, "%s", r.ExceptionDetails)
	b.decode(r.Result.Value, to)
}
