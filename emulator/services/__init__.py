"""The emulated services: DPS, IoT Hub, Key Vault, Azure Resource Manager for their CAs, the managed identity."""
