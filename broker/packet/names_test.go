package packet_test

import (
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/packet"
)

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{packet.V31.String(), "3.1"},
		{packet.V311.String(), "3.1.1"},
		{packet.V5.String(), "5.0"},
		{packet.Version(6).String(), "level 6"},
		{packet.CONNECT.String(), "CONNECT"},
		{packet.AUTH.String(), "AUTH"},
		{packet.Type(0).String(), "reserved"},
		{packet.Type(16).String(), "type 16"},
		{packet.GrantedQoS2.String(), "Granted QoS 2"},
		{packet.Reason(0x7f).String(), "Unknown reason"},
		{packet.MalformedPacket.Error(), "Malformed Packet (0x81)"},
		{packet.WildcardNotSupported.Error(), "Wildcard Subscriptions not supported (0xa2)"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestEachReasonHasANameAndAPacket(t *testing.T) {
	names := map[string]bool{}
	for r := range 256 {
		reason := packet.Reason(r)
		used := false
		for kind := range packet.Type(17) {
			used = used || reason.ValidIn(kind)
		}
		named := !strings.Contains(reason.String(), "Unknown")
		if used != named {
			t.Errorf("%v: has a name: %v, belongs to a packet: %v", reason, named, used)
		}
		if named && names[reason.String()] {
			t.Errorf("%v: another code has this name", reason)
		}
		names[reason.String()] = true
	}
	if n := len(names) - 1; n != 43 {
		t.Errorf("%d reason codes, the standard has 43", n)
	}
}
