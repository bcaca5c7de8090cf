package sdk

import (
	"io"
	"log/slog"
)

// newLogHandler writes records as one JSON object a line, which the gateway takes
// apart again. All levels are written; the gateway decides.
func newLogHandler(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{} // the gateway's log has its own
			}
			return a
		},
	})
}
