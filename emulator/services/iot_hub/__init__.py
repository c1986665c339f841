"""IoT Hub: the registry of device identities, their twins, and the devices' own connections over MQTT."""
