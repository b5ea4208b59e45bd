"""The admin helper: a process that shows over HTTP how the server is, and answers HAProxy's agent checks."""
