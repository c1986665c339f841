"""Who is calling: the managed identity endpoint, bearer tokens, shared access signatures."""
