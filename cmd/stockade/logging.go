package main

import (
	"io"
	"log/slog"
)

// newLogger builds the process's logger from log-format and log-level. The level
// can be changed later through level.
func newLogger(s settings, w io.Writer, level *slog.LevelVar) *slog.Logger {
	mustBeChecked("log-level", level.UnmarshalText([]byte(s.text("log-level"))))
	options := &slog.HandlerOptions{Level: level}
	if s.text("log-format") == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
