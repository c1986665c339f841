"""What Azure's services take, as Microsoft documents it."""

from __future__ import annotations

DPS_OPERATIONS = 1000
"""Service operations of a DPS, a minute ("Azure subscription limits", Device Provisioning Service)."""

HUB_QUERIES, HUB_OPERATIONS = 20, 100
"""Queries, and registry operations, a minute for each unit of S1 or S2 ("IoT Hub quotas and throttling")."""

VAULT_TRANSACTIONS, VAULT_SECONDS = 4000, 10
"""Transactions of secrets, in so many seconds ("Azure Key Vault service limits")."""
