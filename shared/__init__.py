"""The core: issues certificates, registers devices, revokes and reports. It knows nothing of its triggers."""
