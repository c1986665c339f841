"""What is deployed, held offline against the facts of Microsoft that stand in facts/."""
