"""The adapters, with their real SDKs, against the emulated services."""
