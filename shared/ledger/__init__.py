"""What happened to every device, certificate, issuer and order: Azure Tables, written ahead and guarded by ETags."""
