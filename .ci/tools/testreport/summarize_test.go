package main

import (
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	cases := []struct {
		behaviour string
		events    []string
		want      string
		totals    Totals
	}{
		{
			"what passes is one line a package",
			[]string{
				`{"Action":"start","Package":"p"}`,
				`{"Action":"output","Package":"p","Output":"-test.shuffle 17\n"}`,
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"--- PASS: TestA (0.00s)\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/sub","Elapsed":0}`,
				`{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0}`,
				`{"Action":"skip","Package":"p","Test":"TestB","Elapsed":0}`,
				`{"Action":"output","Package":"p","Output":"PASS\n"}`,
				`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
				`{"Action":"pass","Package":"p","Elapsed":0.1}`,
			},
			"ok  \tp\t0.1s\n2 passed, 0 failed, 1 skipped\n",
			Totals{Passed: 2, Skipped: 1},
		},
		{
			"a failed test shows what it wrote, a passed one does not",
			[]string{
				`{"Action":"output","Package":"p","Test":"TestA","Output":"fine\n"}`,
				`{"Action":"output","Package":"p","Test":"TestB","Output":"broken\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p","Test":"TestB"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			"broken\nFAIL\tp\t0.1s\n1 passed, 1 failed, 0 skipped\n",
			Totals{Passed: 1, Failed: 1},
		},
		{
			"a package that does not build is a failure",
			[]string{
				`{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}`,
				`{"ImportPath":"p","Action":"build-fail"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
				`{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			},
			"p.go:1: undefined: x\nFAIL\tp [build failed]\n0 passed, 1 failed, 0 skipped\n",
			Totals{Failed: 1},
		},
		{
			"a package that dies shows what its tests wrote until then",
			[]string{
				`{"Action":"output","Package":"q","Test":"TestC","Output":"still running\n"}`,
				`{"Action":"output","Package":"p","Test":"TestB","Output":"fatal error\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"waiting\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			"waiting\nfatal error\n0 passed, 1 failed, 0 skipped\n",
			Totals{Failed: 1},
		},
		{
			"a line that is no event is passed on",
			[]string{`no required module provides package q`},
			"no required module provides package q\n0 passed, 0 failed, 0 skipped\n",
			Totals{},
		},
	}
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			var out strings.Builder
			totals, err := Summarize(strings.NewReader(strings.Join(c.events, "\n")+"\n"), &out)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Errorf("report:\n%s\nwant:\n%s", out.String(), c.want)
			}
			if totals != c.totals {
				t.Errorf("totals %+v, want %+v", totals, c.totals)
			}
		})
	}
}

func TestRunFailsWithItsTests(t *testing.T) {
	const failing = `{"Action":"fail","Package":"p","Test":"TestA"}` + "\n"
	if err := run(strings.NewReader(failing), &strings.Builder{}, ""); err == nil {
		t.Error("a failed test did not fail the run")
	}
	const passing = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	if err := run(strings.NewReader(passing), &strings.Builder{}, ""); err != nil {
		t.Errorf("a passed test failed the run: %v", err)
	}
}
