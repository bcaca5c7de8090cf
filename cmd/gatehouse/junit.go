package main

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// The form of JUnit that CI servers read.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitProblem `xml:"failure"`
	Error   *junitProblem `xml:"error"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes the results of test files.
func writeJUnit(name string, files []testedFile) error {
	var all junitSuites
	for i := range files {
		all.Suites = append(all.Suites, junitOf(&files[i]))
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	b.WriteByte('\n')
	if err := durable.Replace(name, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("cannot write the results: %w", err)
	}
	return nil
}

func junitOf(f *testedFile) junitSuite {
	s := junitSuite{Name: f.name, Tests: len(f.results), Time: fmt.Sprintf("%.3f", f.took.Seconds())}
	if f.err != nil {
		s.Tests, s.Errors = 1, 1
		s.Cases = append(s.Cases, junitCase{Class: f.name, Name: "file", Time: s.Time, Error: &junitProblem{Message: "the file is not right", Text: f.err.Error()}})
	}
	for _, r := range f.results {
		c := junitCase{Class: f.name, Name: r.Test.Name, Time: fmt.Sprintf("%.3f", r.Took.Seconds())}
		if r.Failure != nil {
			s.Failures++
			text := r.Failure.Text
			for _, line := range r.Failure.Timeline {
				text += "\n" + line
			}
			c.Failure = &junitProblem{Message: r.Failure.Error(), Text: text}
		}
		s.Cases = append(s.Cases, c)
	}
	return s
}
