package jsvm

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

func sampleMessage() *wireMessage {
	return &wireMessage{
		Message: message.Message{
			Topic: "home/客厅/door", Payload: []byte(`{"open":true}`), QoS: 2, Retain: true, UTF8: true,
			ContentType: "application/json", ResponseTopic: "re/ply", CorrelationData: []byte{0, 255},
			UserProperties: []message.Property{{Key: "k", Value: "v"}, {Key: "k", Value: ""}},
			Origin:         "client/x", Hops: 3, At: time.Unix(1_795_334_400, 5),
		},
		Expiry: time.Minute,
	}
}

func sampleBodies() [][]byte {
	state := []rules.StateChange{{Key: "a", Value: []byte("1")}, {Key: "gone"}}
	plain := &wireMessage{Message: message.Message{Topic: "t"}}
	script := []byte(`on('#', (m) => publish('a', m.payload)); filter('#', (m) => ({ topic: 'x' })); every(10, () => {})`)
	memory := newRecall()
	memory.hear(sampleMessage())
	memory.add([]windowSpec{{Name: "w", Last: 2}}, added{Key: "k", point: point{At: 7, Value: 1.5}})
	memory.setPause(paced{Pace: 1, Key: "k", pause: pause{At: 7, Due: 9, Args: []byte("[]")}})
	memory.setPause(paced{Key: "k", pause: pause{At: 8}})
	records := []record{
		&helloRecord{Version: wireVersion, Deadline: time.Second, Memory: 1 << 30},
		&loadRecord{Seq: 1, Script: 1, Name: "a.js", Text: script, Files: []wireFile{{"lib/a.ts", []byte("export {}")}}, State: state, Recall: memory, Fresh: true, Expect: 9, Now: time.Unix(1, 0), Steady: 5},
		&callRecord{Seq: 2, Script: 1, Rule: 3, Message: sampleMessage(), Explain: true, Peers: []uint32{1, 0}, Now: time.Unix(1, 0), Steady: 5},
		&callRecord{Seq: 3, Script: 1, Rule: 0, Message: plain},
		&callRecord{Seq: 4, Script: 1, Trigger: rules.OnTimer, Timer: "top/1:1/once/1"},
		&callRecord{Seq: 5, Script: 1, Trigger: rules.OnStart},
		&callRecord{Seq: 6, Script: 1, Trigger: rules.OnTimer, Timer: "after \"x\" 1", Name: "x", Data: []byte("1"), Late: time.Hour},
		&callRecord{Seq: 7, Script: 1, Trigger: rules.OnSchedule, Schedule: "at 07:30", Late: time.Hour},
		&callRecord{Seq: 8, Script: 1, Trigger: rules.OnReply, Timer: "id", Name: "x", Data: []byte("1"), Reply: &rules.Reply{Status: 200, Header: map[string]string{"a": "b"}, Body: []byte("x"), Err: "no"}},
		&stateRecord{Script: 1, Values: state, Recall: memory},
		&unloadRecord{Script: 1},
		&askRecord{Seq: 2, Name: "sum", Args: []byte("[1,2]")},
		&toldRecord{Result: []byte("3")},
		&toldRecord{Err: "closed"},
		&loadedRecord{Seq: 1, Rules: []wireRule{
			{Rule: rules.Rule{Name: "on a", Line: 2, Filters: []string{"a", "b/#"}, QoS: 1, Retained: true}},
			{Rule: rules.Rule{Name: "filter c", Stage: rules.Before, OnError: rules.PassOnError, Filters: []string{"c"}}},
			{Rule: rules.Rule{Name: "at 07:30", Grace: -1, Shadow: true, Start: true, Hooks: []string{"h"}}, Times: []wireTime{{"at", "07:30"}}},
			{Rule: rules.Rule{Name: "timer x"}, Named: "x", Kind: kindTimer},
		}, Windows: []windowSpec{{Name: "w", Last: 2, Over: time.Minute}}, Paces: []paceSpec{{Name: "throttle x", Interval: time.Second, Throttle: true}}, Uses: []string{"b.js"}, Varies: true, Result: wireOutcome{Timers: []rules.TimerChange{{ID: "t", After: time.Second, Every: true}, {ID: "u", Name: "n", Data: []byte("1")}}}},
		&resultRecord{Seq: 2, Result: wireOutcome{
			Fired: true, Verdict: message.Replace, Replace: sampleMessage(), Publish: []wireMessage{*sampleMessage(), *plain},
			Facts:    []rules.Fact{{What: "publish a", Value: "1"}},
			Adds:     []added{{Window: 1, Key: "k", point: point{At: 7, Value: 1.5}}},
			Paced:    []paced{{Pace: 1, Key: "k", pause: pause{At: 7, Due: 9, Args: []byte("[]")}}, {Key: "l", Over: true}},
			Requests: []rules.Request{{ID: "i", Name: "n", Data: []byte("1"), Method: "PUT", URL: "http://x/", Header: map[string]string{"a": "b"}, Body: []byte("x"), Timeout: time.Second, Retries: 3}},
			State:    state, Logs: []rules.LogLine{{Level: slog.LevelWarn, Text: "w"}}, Took: time.Millisecond,
		}},
		&resultRecord{Seq: 3, Lost: lostAfter, Result: wireOutcome{Fault: &fault{Line: 1, Column: 2, Msg: "no"}, Verdict: message.Reject}},
		&hoardRecord{Script: 1, Bytes: 1 << 20},
	}
	var bodies [][]byte
	var all []byte
	for _, rec := range records {
		bodies = append(bodies, appendRecord(nil, rec))
		all = appendRecord(all, rec)
	}
	requests := appendRecord(nil, &loadRecord{Seq: 1, Script: 1, Name: "a.js", Text: script, Now: time.Unix(1, 0)})
	requests = appendRecord(requests, records[2])
	requests = appendRecord(requests, records[3])
	return append(bodies, all, requests)
}

// sampleWorker is a worker in this process, whose watch does not run.
func sampleWorker(answers io.Writer) *worker {
	return &worker{
		answers: answers, shared: &sharedPage{seq: new(atomic.Uint64)},
		hello: &helloRecord{Deadline: time.Second}, watch: newWatch(time.Second),
		memory: newMemoryGauge(1 << 40), scripts: make(map[uint32]*script), frame: beginFrame(nil),
	}
}
