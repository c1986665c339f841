"""Key Vault: keys that sign and wrap without leaving the vault, and secrets."""
