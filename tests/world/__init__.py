"""The app's devices in memory: every service with the semantics that count, one step at a time."""
