"""Handlers to learn from; README.md says how to run and talk to each."""
