"""What the app keeps and what may follow what: records and their rules, pure."""
