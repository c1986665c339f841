"""A local stand-in for the Azure services that a fleet of devices meets: DPS, IoT Hub, Key Vault, managed identity."""
