// Package topic knows topic names and topic filters (MQTT 5.0 §4.7): whether they
// are valid, whether a filter matches a name, and a tree of many filters that
// finds those that match.
//
// A topic name is a UTF-8 string of 1 to 65,535 bytes without NUL, "+" or "#",
// read as levels separated by "/". In a topic filter a level may be "+" (any one
// level) and the last may be "#" (any number of levels, none included). A filter
// that begins with a wildcard does not match a name that begins with "$".
//
//	var t topic.Tree[string]
//	t.Add("home/+/door", "light")
//	for rule := range t.Match("home/hall/door") {
//		fmt.Println(rule) // light
//	}
package topic
