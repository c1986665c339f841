"""Archives of the ledger: encrypted, made while the app runs, verified without it, and put into an empty account."""
