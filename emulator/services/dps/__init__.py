"""The Device Provisioning Service: its service API, its CA certificates, and its device API over MQTT."""
