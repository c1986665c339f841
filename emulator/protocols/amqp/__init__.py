"""AMQP 1.0 for a server (OASIS AMQP Version 1.0, parts 1 to 3, and SASL of part 5); it knows no service of Azure."""
