package trace_test

import (
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
)

// lines are the flows of a trace, one each.
func lines(t *trace.Trace) (out []string) {
	for _, f := range t.Flows {
		proto := "tcp"
		if f.UDP {
			proto = "udp"
		}
		out = append(out, fmt.Sprintf("%v %s%v > %v %s %v %d %v", f.Start, f.Host, f.Src, f.Dst, proto, f.Duration, f.Bytes, f.End))
	}
	return out
}

func read(t testing.TB, text string) *trace.Trace {
	t.Helper()
	got, err := trace.Read("file", []byte(text))
	require.NoError(t, err)
	return got
}

func TestCSV(t *testing.T) {
	got := read(t, "\ufeffport, SRC,dst,start,end,proto,duration,bytes\n"+
		"443,10.244.0.2,203.0.113.9,2.5,rst,TCP,1m30s,1000\n"+
		`53,"shop/web-0",2001:db8::53,500ms,,17,,`+"\n"+
		"443,10.244.0.2,203.0.113.9,3,open,6,60,0\n")
	assert.Equal(t, []string{
		"0s shop/web-0invalid IP > [2001:db8::53]:53 udp 0s 0 fin",
		"2s 10.244.0.2 > 203.0.113.9:443 tcp 1m30s 1000 rst",
		"2.5s 10.244.0.2 > 203.0.113.9:443 tcp 1m0s 0 open",
	}, lines(got))
	assert.True(t, got.Begin.IsZero())

	got = read(t, "start,src,dst,port\n2026-11-29T10:00:01.5+01:00,a,203.0.113.9,443\n2026-11-29T09:00:00Z,b,203.0.113.9,443\n")
	assert.Equal(t, []string{"0s binvalid IP > 203.0.113.9:443 tcp 0s 0 fin", "1.5s ainvalid IP > 203.0.113.9:443 tcp 0s 0 fin"}, lines(got))
	assert.Equal(t, time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC), got.Begin)
}

// The samples of Microsoft's documents, cut to what matters, and tuples without begin and end.
const vnetLog = `{"records": [{"time": "2022-09-14T09:00:52.5625085Z", "flowLogVersion": 4, "category": "FlowLogFlowEvent",
  "flowRecords": {"flows": [{"aclID": "00000000-1234-abcd-ef00-c1c2c3c4c5c6", "flowGroups": [{"rule": "DefaultRule_AllowInternetOutBound", "flowTuples": [
    "1663146003599,10.0.0.6,52.239.184.180,23956,443,6,O,B,NX,0,0,0,0",
    "1663146003606,10.0.0.6,52.239.184.180,23956,443,6,O,E,NX,3,767,2,1580",
    "1663146017343,10.0.0.6,104.16.218.84,36776,443,6,O,B,NX,0,0,0,0",
    "1663146022793,10.0.0.6,104.16.218.84,36776,443,6,O,E,NX,22,2217,33,32466",
    "1663146001000,10.0.0.6,9.9.9.9,50000,53,17,O,C,NX,1,60,1,200",
    "1663146301000,10.0.0.6,9.9.9.9,50000,53,17,O,C,NX,1,60,1,200",
    "1663146004000,10.0.0.6,1.1.1.1,50001,443,6,O,B,NX,,,,"
  ]}]}, {"aclID": "01020304-abcd-ef00-1234-102030405060", "flowGroups": [{"rule": "Internet", "flowTuples": [
    "1663145998065,101.33.218.153,10.0.0.6,55188,22,6,I,D,NX,0,0,0,0",
    "1663145998065,101.33.218.153,10.0.0.6,55189,443,6,I,B,NX,0,0,0,0",
    "1663145998065,10.0.0.6,101.33.218.153,0,0,1,O,B,NX,0,0,0,0",
    "1663145998065,10.0.0.6,224.0.0.251,5353,5353,17,O,B,NX,0,0,0,0"
  ]}]}]}}]}`

const nsgLog = `{"records": [{"time": "2018-11-13T12:00:35.3899262Z", "category": "NetworkSecurityGroupFlowEvent",
  "properties": {"Version": 2, "flows": [{"rule": "DefaultRule_AllowInternetOutBound", "flows": [{"mac": "000D3AF87856", "flowTuples": [
    "1542110377,10.0.0.4,13.67.143.118,44931,443,T,O,A,B,,,,",
    "1542110402,10.0.0.4,13.67.143.118,44931,443,T,O,A,C,24,2000,24,4000",
    "1542110437,10.0.0.4,13.67.143.118,44931,443,T,O,A,E,30,16978,24,14008",
    "1542110437,10.0.0.4,13.67.143.118,44931,443,T,O,A,B,,,,",
    "1542110440,10.0.0.4,13.67.143.118,44932,443,U,O,D,B,,,,"
  ]}]}]}}]}`

func TestAzure(t *testing.T) {
	got := read(t, vnetLog)
	assert.Equal(t, []string{
		"0s 10.0.0.6 > 9.9.9.9:53 udp 5m0s 520 open",
		"2.599s 10.0.0.6 > 52.239.184.180:443 tcp 7ms 2347 fin",
		"3s 10.0.0.6 > 1.1.1.1:443 tcp 0s 0 open",
		"16.343s 10.0.0.6 > 104.16.218.84:443 tcp 5.45s 34683 fin",
	}, lines(got))
	assert.Equal(t, time.UnixMilli(1663146001000).UTC(), got.Begin)
	assert.Equal(t, map[string]int{"denied": 1, "inbound": 1, "protocol 1": 1, "not to a single host": 1}, got.Skipped)

	got = read(t, nsgLog)
	assert.Equal(t, []string{
		"0s 10.0.0.4 > 13.67.143.118:443 tcp 1m0s 36986 fin",
		"1m0s 10.0.0.4 > 13.67.143.118:443 tcp 0s 0 open",
	}, lines(got))
	assert.Equal(t, map[string]int{"denied": 1}, got.Skipped)
}

// event is a line of Hubble.
func event(at string, reply bool, verdict, flags string, ports [2]int, more string) string {
	src, dst, sp, dp := "10.244.0.2", "203.0.113.9", ports[0], ports[1]
	from, to := `{"namespace":"shop","pod_name":"web-0"}`, `{"identity":2,"labels":["reserved:world"]}`
	if reply {
		src, dst, sp, dp, from, to = dst, src, dp, sp, to, from
	}
	return fmt.Sprintf(`{"flow":{"time":"2026-11-29T10:00:%sZ","verdict":%q,"IP":{"source":%q,"destination":%q,"ipVersion":"IPv4"},`+
		`"l4":{"TCP":{"source_port":%d,"destination_port":%d,"flags":{%s}}},"source":%s,"destination":%s,"Type":"L3_L4","is_reply":%v%s},"node_name":"n"}`+"\n",
		at, verdict, src, dst, sp, dp, flags, from, to, reply, more)
}

func TestHubble(t *testing.T) {
	port := [2]int{41000, 443}
	got := read(t, event("01.5", false, "FORWARDED", `"SYN":true`, port, "")+
		event("01.6", true, "FORWARDED", `"SYN":true,"ACK":true`, port, "")+"\n"+
		event("02", false, "FORWARDED", `"ACK":true,"FIN":true`, port, "")+
		event("02.25", true, "FORWARDED", `"ACK":true`, port, "")+
		event("03", false, "FORWARDED", `"SYN":true`, port, "")+ // the port again
		event("04", true, "FORWARDED", `"RST":true`, port, "")+
		event("05", false, "DROPPED", `"SYN":true`, [2]int{1, 2}, "")+
		`{"time":"2026-11-29T10:00:01Z","verdict":"TRACED","IP":{"source":"10.244.0.3","destination":"2001:db8::5"},"l4":{"UDP":{"source_port":5,"destination_port":53}},"source":{"namespace":"a","pod_name":"b"},"destination":{}}`+"\n"+
		`{"flow":{"time":"x","Type":"L7","l7":{}}}`+"\n"+
		`{"lost_events":{"num_events_lost":"3"}}`+"\n"+
		strings.Replace(event("07", false, "FORWARDED", ``, port, ""), `"identity":2,"labels":["reserved:world"]`, `"pod_name":"db-0"`, 1)+
		strings.Replace(event("07", false, "FORWARDED", ``, port, ""), `"pod_name":"web-0"`, `"identity":1`, 1))
	assert.Equal(t, []string{
		"0s a/b10.244.0.3 > [2001:db8::5]:53 udp 0s 0 fin",
		"500ms shop/web-010.244.0.2 > 203.0.113.9:443 tcp 750ms 0 fin",
		"2s shop/web-010.244.0.2 > 203.0.113.9:443 tcp 1s 0 rst",
	}, lines(got))
	assert.Equal(t, map[string]int{"dropped": 1, "no packet of TCP or UDP": 2, "to a pod": 1, "not begun by a pod": 1}, got.Skipped)
}

func TestPackets(t *testing.T) {
	type at struct {
		at  time.Duration
		pkt []byte
	}
	const pod, remote, client = "10.244.0.2:41000", "203.0.113.9:443", "198.51.100.7:50000"
	capture := []at{
		{0, pkttest.TCP(client, pod, pkttest.SYN)},
		{1, pkttest.TCP(pod, client, pkttest.SYN, pkttest.ACK)},
		{1, pkttest.TCP(pod, "10.244.0.3:80", pkttest.SYN)},
		{1, []byte{0x45}},
		{1, pkttest.ICMPEcho("10.244.0.2", "203.0.113.9", 1, 1)},
		{time.Second, pkttest.TCP(pod, remote, pkttest.SYN)},
		{time.Second + 20, pkttest.TCP(remote, pod, pkttest.SYN, pkttest.ACK)},
		{2 * time.Second, pkttest.TCP(remote, pod, pkttest.FIN, pkttest.ACK, pkttest.Payload("x"))},
		{3 * time.Second, pkttest.TCP(pod, remote, pkttest.FIN, pkttest.ACK)},
		{4 * time.Second, pkttest.UDP(pod, "[2001:db8::1]:53"[:0]+"203.0.113.53:53", "q")},
		{5 * time.Second, pkttest.UDP("203.0.113.53:53", pod, "answer")},
		{6 * time.Second, pkttest.TCP(pod, remote, pkttest.SYN)},
		{7 * time.Second, pkttest.TCP(pod, remote, pkttest.RST)},
		{8 * time.Second, pkttest.TCP("10.244.0.2:41001", remote, pkttest.ACK)}, // of before the capture
		{3 * time.Hour, pkttest.UDP(pod, "203.0.113.53:53", "q")},
	}
	var packets iter.Seq2[time.Duration, []byte] = func(yield func(time.Duration, []byte) bool) {
		for _, p := range capture {
			if !yield(p.at, p.pkt) {
				return
			}
		}
	}
	got, err := trace.Packets(packets, netip.MustParsePrefix("10.244.0.0/16").Contains)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"0s 10.244.0.2 > 203.0.113.9:443 tcp 2s 161 fin",
		"3s 10.244.0.2 > 203.0.113.53:53 udp 1s 63 fin",
		"5s 10.244.0.2 > 203.0.113.9:443 tcp 1s 80 rst",
		"7s 10.244.0.2 > 203.0.113.9:443 tcp 0s 40 open",
		"2h59m59s 10.244.0.2 > 203.0.113.53:53 udp 0s 29 fin",
	}, lines(got))
	assert.Equal(t, map[string]int{"not begun inside": 2, "within one side": 1, "not a whole packet": 1, "no packet of TCP or UDP": 1}, got.Skipped)
	assert.True(t, got.Begin.IsZero())
}

// Whatever is wrong is told with file, line, field and value, all at once.
// Of more problems than are shown it is said how many there are.
func TestManyErrors(t *testing.T) {
	for _, text := range []string{"start,src,dst,port\n" + strings.Repeat("1,a,b\n", 250), event("01", false, "", "", [2]int{1, 2}, "") + strings.Repeat("{\n", 250)} {
		_, err := trace.Read("file", []byte(text))
		assert.ErrorContains(t, err, "and 150 more")
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"": {"file: missing: there is nothing in the file"},
		"start,src,when\n1,2,3\n": {
			`file:1: header "when": unknown name: columns are start, src`, `file:1: header "dst": missing: the column is needed`, `file:1: header "port": missing`,
		},
		"start,src,src,dst,port\n": {`file:1: header "src": duplicate name`},
		"start,src,dst,port,proto,duration,bytes,end\nx,,y,0,sctp,-1,-2,gone\n1,a,203.0.113.9,443\n1,\"a\"b,c\n1e300,a,203.0.113.9,443,,,,\n": {
			`file:2: bytes "-2": cannot be read: must be a whole number`,
			`file:2: dst "y": not the address of a single host`,
			`file:2: duration "-1": cannot be read`,
			`file:2: end "gone": out of range: fin, rst or open`,
			`file:2: port "0": out of range: 1..65535`,
			`file:2: proto "sctp": out of range: tcp or udp`,
			`file:2: src "": missing: an address, or the name of a host`,
			`file:2: start "x": cannot be read: must be seconds`,
			`file:3: line "1,a,203.0.113.9,443": cannot be read: has 4 fields, the header 8`,
			`file:4: line "": cannot be read: extraneous or missing "`,
			`file:5: start "1e300": cannot be read`,
		},
		"{\"records\": [\n{\"flowTuples\": [\n\"1487282421,192.0.2.95,10.1.0.4,51529,5358,T,I,D\",\n\"1,2\", \"x,a,b,1,2,6,O,B,NX,,,,\",\"1,10.0.0.1,b,1,2,6,O,B,NX,,,,\",\n\"1,10.0.0.1,10.0.0.2,1,2,6,O,Q,NX,,,,\",\"1,10.0.0.1,10.0.0.2,1,2,T,O,A,B,,-1,,\",\"1,10.0.0.1,10.0.0.2,1,0,T,O,A,B,,,,\"]}": {
			`file:3: flowTuples "1487282421,192.0.2.95,10.1.0.4,51529,5358,T,I,D": cannot be read: is of version 1`,
			`file:4: flowTuples "1,2": cannot be read: must have 13 values`,
			`file:4: flowTuples "x,a,b,1,2,6,O,B,NX,,,,": cannot be read: the time must be that of Unix`,
			`file:4: flowTuples "1,10.0.0.1,b,1,2,6,O,B,NX,,,,": cannot be read: must have addresses and ports`,
			`file:5: JSON "": cannot be read: `,
			`file:5: flowTuples "1,10.0.0.1,10.0.0.2,1,2,6,O,Q,NX,,,,": cannot be read: the state must be B, C, E or D`,
			`file:5: flowTuples "1,10.0.0.1,10.0.0.2,1,2,T,O,A,B,,-1,,": cannot be read: bytes must be whole numbers`,
			`file:5: flowTuples "1,10.0.0.1,10.0.0.2,1,0,T,O,A,B,,,,": cannot be read: must have addresses and ports`,
		},
		"start,src,dst,port\n9999-01-01T00:00:00Z,a,203.0.113.9,443\n9998-06-01T00:00:00Z,a,203.0.113.9,443\n0001-01-01T00:00:00Z,a,203.0.113.9,443\n": {
			`file:4: start "0001-01-01T00:00:00Z": out of range: must be within 366 days of the first one`,
		},
		"{\"records\": [{\"flowTuples\": [\"1542110402,10.0.0.1,203.0.113.9,5,443,T,O,A,B,,,,\",\n\"1,10.0.0.1,203.0.113.9,5,443,T,O,A,B,,,,\"]}]}": {
			`file:1: flowTuples "2018-11-13T12:00:02Z": out of range: must be within 366 days of the first one`,
		},
		"start,src,dst,port\n1,a,203.0.113.9,443\n2026-11-29T10:00:00Z,a,203.0.113.9,443\n2,a,203.0.113.9,443\n": {
			`file:3: start "2026-11-29T10:00:00Z": conflict: must be since the beginning in all lines, or a date in all`,
		},
		"start,src,dst,port\n2026-11-29T10:00:00Z,a,203.0.113.9,443\n2,a,203.0.113.9,443\n":         {`file:3: start "2": conflict: must be`},
		"{\"records\": [{\"flowTuple\": [\"1542110402,10.0.0.1,203.0.113.9,5,443,T,O,A,B,,,,\"]}]}": {`file:1: flowTuples "": missing: there is no list of this name in the file`},
		"{\"records\": [{\"flowTuples\": \"x\"},\n{\"flowTuples\": [1, null, {\"a\": \"b\"}, [\"c\"]]}, {\"flowTuples\":\n{\"rule\": []}}]}": {
			`file:1: flowTuples "x": cannot be read: must be a list`,
			`file:2: flowTuples "1": cannot be read: a tuple must be a string`,
			`file:2: flowTuples "null": cannot be read: a tuple must be a string`,
			`file:2: flowTuples "{": cannot be read: a tuple must be a string`,
			`file:2: flowTuples "[": cannot be read: a tuple must be a string`,
			`file:3: flowTuples "{": cannot be read: must be a list`,
		},
		"{\"a\": 1}\n{\"flow\": {}}\n": {`file:1: flow "": missing: no line has a flow of Hubble`},
		event("01", false, "", "", [2]int{1, 2}, "") + strings.Replace(event("01", false, "", "", [2]int{1, 2}, ""), "2026", "1926", 1): {
			`file:2: time "1926-11-29T10:00:01Z": out of range: must be within 366 days of the first one`,
		},
		"{\"flow\":1}\n{\"time\":\"now\",\"IP\":{},\"l4\":{\"UDP\":{}}}\n" + strings.Replace(event("01", false, "", "", [2]int{1, 2}, ""), "10.244.0.2", "pod", 1) +
			strings.Replace(event("01", false, "", "", [2]int{1, 2}, ""), "203.0.113.9", "", 1) + event("01", false, "", "", [2]int{1, 70000}, ""): {
			`file:1: JSON "{\"flow\":1}": cannot be read`,
			`file:2: time "now": cannot be read: must be a time`,
			`file:3: IP.source "pod": not the address of a single host`,
			`file:4: IP.destination "": not the address`,
			`file:5: JSON "{\"flow\":{\"time\":\"2026-11-29T10:00:01Z\",\"": cannot be read`,
		},
	} {
		got, err := trace.Read("file", []byte(text))
		assert.Nil(t, got)
		require.Error(t, err, text)
		lines := strings.Split(err.Error(), "\n")
		if assert.Len(t, lines, len(want), err.Error()) {
			for i := range want {
				assert.True(t, strings.HasPrefix(lines[i], want[i]), "%s\nwant %s", lines[i], want[i])
			}
		}
	}
}

// Whatever the bytes, reading ends, and what is read is in order and makes sense.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		vnetLog, nsgLog, "start,src,dst,port\n1,a,203.0.113.9,443\n", event("01", false, "FORWARDED", `"SYN":true`, [2]int{1, 2}, "") + event("02", true, "", `"FIN":true`, [2]int{1, 2}, ""),
		"", "{", "\"", "start,src,dst,port,duration\n2026-11-29T10:00:00Z,a,203.0.113.9,443,1h\n-1,b,::1,1,1\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := trace.Read("file", data)
		if err != nil {
			require.Nil(t, got)
			return
		}
		last := time.Duration(0)
		for i, x := range got.Flows {
			require.GreaterOrEqual(t, x.Start, last)
			require.GreaterOrEqual(t, x.Duration, time.Duration(0))
			require.True(t, i > 0 || x.Start == 0)
			require.True(t, x.Dst.IsValid())
			require.True(t, x.Src.IsValid() || x.Host != "")
			last = x.Start
		}
		again, err := trace.Read("file", data)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
