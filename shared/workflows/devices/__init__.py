"""Devices: ordered, issued, registered, renewed, revoked, found."""
