// Package trial runs rules in virtual time: the real engine and the real languages, on
// a clock that only moves when it is told to, a bus in memory, and a keeper that
// outlives the engine, so that a day takes milliseconds and a power cut takes a call.
//
// The words: a [World] is an engine with a [Clock], a [Bus] and a [Keeper]. It is still
// whenever one of its methods has returned: everything that was due has been done.
// [World.Advance] goes from one due time to the next, and lets everything come to rest
// at each. A [File] is a test file, NAME.test.yaml, whose steps [File.Run] plays in a
// world for each of its tests.
//
//	err := trial.Run(ctx, trial.Options{Engine: rules.Options{Languages: languages}, Folder: folder, Start: start},
//		func(ctx context.Context, w *trial.World) error {
//			if _, err := w.Publish(ctx, message.Message{Topic: "home/hall/door", Payload: []byte(`{"open":true}`)}); err != nil {
//				return err
//			}
//			return w.Advance(ctx, 5*time.Minute)
//		})
//
// What a world is not: the broker. There are no clients, no sessions and no access
// rules; a message is delivered to whoever hears it, at once.
package trial
