"""What relying parties ask, and what expires."""
