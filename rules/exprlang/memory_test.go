package exprlang_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// TestMessagesOfARunAreTheirOwn has many calls in one Run, and another after it: what is
// made in memory that is used again must not be that of another message.
func TestMessagesOfARunAreTheirOwn(t *testing.T) {
	p := compile(t, `rules:
  - name: r
    on: in/+
    do:
      - publish: out/${parts[1]}
        payload: {n: "${payload.n}", text: "it is ${payload.n}!"}
      - publish: constant
        payload: {a: 1}
`)
	run := func(from int) []rules.Outcome {
		calls := make([]rules.Call, 40)
		for i := range calls {
			calls[i] = rules.Call{Message: &message.Message{Topic: fmt.Sprintf("in/%d", from+i), Payload: fmt.Appendf(nil, `{"n":%d}`, from+i)}, Now: noon}
		}
		return p.Run(t.Context(), calls)
	}
	first, second := run(0), run(1000)
	check := func(outs []rules.Outcome, from int) {
		for i, out := range outs {
			if out.Err != nil || len(out.Publish) != 2 {
				t.Fatalf("call %d: %v, %d messages", i, out.Err, len(out.Publish))
			}
			n := from + i
			want := fmt.Sprintf(`out/%d {"n":%d,"text":"it is %d!"} constant {"a":1}`, n, n, n)
			a, b := out.Publish[0], out.Publish[1]
			if got := fmt.Sprintf("%s %s %s %s", a.Topic, a.Payload, b.Topic, b.Payload); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
	check(first, 0)
	check(second, 1000)
}

// TestMembersOfAPayload looks into payloads of few members, of many, and of one twice.
func TestMembersOfAPayload(t *testing.T) {
	p := compile(t, "rules:\n  - name: r\n    on: in\n    if: payload.k3 == 3\n    do: [{publish: out, payload: \"${payload.k5} ${payload.k3} ${payload.deep.x}\"}]\n")
	for _, n := range []int{6, 31, 32, 33, 100} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"k%d":%d`, i, i))
		}
		for twice, want := range map[string]string{"": "5 3 7", `,"k5":55`: "55 3 7"} {
			payload := "{" + strings.Join(members, ",") + `,"deep":{"x":7}` + twice + "}"
			out := p.Run(t.Context(), []rules.Call{{Message: &message.Message{Topic: "in", Payload: []byte(payload)}, Now: noon}})[0]
			if out.Err != nil || len(out.Publish) != 1 || string(out.Publish[0].Payload) != want {
				t.Errorf("%d members%s: %v %v, want %s", n, twice, out.Err, out.Publish, want)
			}
		}
	}
}

func TestARuleThatFiresAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := compile(t, "rules:\n  - name: r\n    on: home/+/door\n    if: payload.open == true\n    do:\n      - publish: home/${parts[1]}/light/set\n        payload: {on: true, since: \"${payload.at}\"}\n")
	const batch = 32
	calls := make([]rules.Call, batch)
	for i := range calls {
		calls[i] = rules.Call{Message: &message.Message{Topic: "home/hall/door", Payload: []byte(`{"open":true,"at":1732280400,"battery":88}`)}, Now: noon}
	}
	p.Run(t.Context(), calls)
	each := testing.AllocsPerRun(100, func() { p.Run(t.Context(), calls) }) / batch
	if each > 4 { // the topic, the payload, the name of a level, and a share of what a batch takes
		t.Errorf("%.1f allocations a message", each)
	}
}
