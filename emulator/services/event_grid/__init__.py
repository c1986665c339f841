"""An Event Grid custom topic."""
