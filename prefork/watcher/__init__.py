"""The watcher of `--reload`: a helper process that sees which source files change."""
