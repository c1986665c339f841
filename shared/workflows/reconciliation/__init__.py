"""Compares the ledger with DPS, hubs and vaults, keeps what differs, and makes one follow the other."""
