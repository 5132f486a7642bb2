package ipfix_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/ipfix"
)

func TestNAT_L2_MandatoryFields(t *testing.T) {
	e4 := snat.Event{
		At: flow.At(90 * time.Second), Kind: snat.EventSessionCreate, Proto: 6, Instance: 9, Realm: 2,
		Inside: netip.MustParseAddrPort("10.0.0.4:40000"), Outside: netip.MustParseAddrPort("203.0.113.10:1025"),
	}
	e6 := e4
	e6.Inside, e6.Outside = netip.MustParseAddrPort("[fd00::4]:40000"), netip.MustParseAddrPort("[2001:db8:f::10]:1025")
	far := e4
	far.Remote = netip.MustParseAddrPort("198.51.100.7:443")
	as := func(e snat.Event, k snat.EventKind, change ...func(*snat.Event)) snat.Event {
		e.Kind = k
		for _, f := range change {
			f(&e)
		}
		return e
	}
	block := func(e *snat.Event) { e.Ports = flow.PortSpan{First: 2048, Last: 2303} }
	quota := func(q snat.Quota) func(*snat.Event) {
		return func(e *snat.Event) { e.Quota, e.Limit = q, 10 }
	}
	const head, a4, f4, a6, f6, vrf = "323/8 230/1", " 8/4", " 225/4", " 27/16", " 281/16", " 234/4"
	const origin = " 229/1" + vrf
	for name, tc := range map[string]struct {
		e              snat.Event
		fields, record string
	}{
		"session": {e4, head + a4 + f4 + " 4/1 7/2 227/2" + origin, "0000000000015f90 04 0a000004 cb00710a 06 9c40 0401 01 00000002"},
		"session from outside": {as(e4, snat.EventSessionDelete, func(e *snat.Event) { e.Origin = flow.Outside }), head + a4 + f4 + " 4/1 7/2 227/2" + origin,
			"0000000000015f90 05 0a000004 cb00710a 06 9c40 0401 02 00000002"},
		"session, v6": {e6, head + a6 + f6 + " 4/1 7/2 227/2" + origin,
			"0000000000015f90 04 fd000000000000000000000000000004 20010db8000f00000000000000000010 06 9c40 0401 01 00000002"},
		"session with destination": {far, head + a4 + f4 + " 4/1 7/2 227/2 12/4 226/4 11/2 228/2" + origin,
			"0000000000015f90 04 0a000004 cb00710a 06 9c40 0401 c6336407 c6336407 01bb 01bb 01 00000002"},
		"binding":             {as(e4, snat.EventBindingDelete), head + a4 + f4 + " 4/1 7/2 227/2" + origin, "0000000000015f90 09 0a000004 cb00710a 06 9c40 0401 01 00000002"},
		"block":               {as(e4, snat.EventBlockCreate, block), head + a4 + f4 + " 361/2 362/2" + vrf, "0000000000015f90 10 0a000004 cb00710a 0800 08ff 00000002"},
		"block, v6":           {as(e6, snat.EventBlockDelete, block), head + a6 + f6 + " 361/2 362/2" + vrf, "0000000000015f90 11 fd000000000000000000000000000004 20010db8000f00000000000000000010 0800 08ff 00000002"},
		"address binding":     {as(e4, snat.EventAddressBindingCreate), head + a4 + f4 + vrf, "0000000000015f90 0e 0a000004 cb00710a 00000002"},
		"ports exhausted":     {as(e4, snat.EventPortsExhausted), head + f4 + " 4/1", "0000000000015f90 0c cb00710a 06"},
		"ports exhausted, v6": {as(e6, snat.EventPortsExhausted), head + f6 + " 4/1", "0000000000015f90 0c 20010db8000f00000000000000000010 06"},
		"addresses exhausted": {as(e4, snat.EventAddressesExhausted), head + " 283/4", "0000000000015f90 03 00000009"},
		"quota of a user":     {as(e4, snat.EventQuotaExceeded, quota(snat.QuotaPerUser)), head + " 466/4 473/4" + a4 + vrf, "0000000000015f90 0d 00000003 0000000a 0a000004 00000002"},
		"quota of sessions":   {as(e4, snat.EventQuotaExceeded, quota(snat.QuotaSessions)), head + " 466/4 471/4", "0000000000015f90 0d 00000001 0000000a"},
		"no record":           {as(e4, snat.EventParameters), "", ""},
	} {
		var fields []string
		size := 0
		for _, f := range ipfix.AppendTemplate(nil, &tc.e) {
			fields = append(fields, fmt.Sprintf("%d/%d", f.ID, f.Length))
			size += int(f.Length)
		}
		record := ipfix.AppendRecord([]byte{0xff}, &tc.e)
		assert.Equal(t, tc.fields, strings.Join(fields, " "), name)
		assert.Equal(t, "ff"+strings.ReplaceAll(tc.record, " ", ""), hex.EncodeToString(record), name)
		assert.Len(t, record, 1+size, name)
	}
	assert.Len(t, ipfix.AppendRecord(nil, &e4), 27)
}

// FuzzEvent encodes arbitrary events: a record is as long as its template says.
func FuzzEvent(f *testing.F) {
	f.Add(uint8(4), uint8(6), uint32(9), uint32(3), int64(1), []byte{10, 0, 0, 4}, []byte{203, 0, 113, 10}, []byte{})
	f.Add(uint8(13), uint8(17), uint32(0), uint32(1), int64(-1), make([]byte, 16), []byte{}, make([]byte, 16))
	f.Fuzz(func(t *testing.T, kind, proto uint8, instance, quota uint32, at int64, inside, outside, remote []byte) {
		end := func(b []byte) netip.AddrPort {
			a, _ := netip.AddrFromSlice(b)
			return netip.AddrPortFrom(a, uint16(quota))
		}
		e := snat.Event{
			At: flow.Time(at), Kind: snat.EventKind(kind), Proto: proto, Instance: instance, Quota: snat.Quota(quota), Limit: quota,
			Inside: end(inside), Outside: end(outside), Remote: end(remote), Ports: flow.PortSpan{First: uint16(instance), Last: uint16(quota)},
		}
		prior, size := []byte("prior"), 0
		fields := ipfix.AppendTemplate([]ipfix.Field{{ID: 1, Length: 5}}, &e)
		for _, field := range fields {
			size += int(field.Length)
		}
		record := ipfix.AppendRecord(prior, &e)
		require.Len(t, record, size)
		require.Equal(t, prior, record[:5])
		require.NotEmpty(t, e.Kind.String())
	})
}
