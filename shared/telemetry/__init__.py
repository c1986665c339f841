"""What the app tells of itself while it runs: spans and metrics. Off, it costs a comparison; nothing is imported."""
