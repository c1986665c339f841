"""What comes from standards: AMQP 1.0, MQTT 3.1.1, websockets, HTTP, TLS, certification paths. Knows no service."""
