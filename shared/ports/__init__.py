"""What workflows and ledger need of the services, as protocols and plain values."""
