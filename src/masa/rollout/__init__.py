"""Where completions come from: the `Engine` protocol and its implementations."""
