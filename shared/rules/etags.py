"""Entity tags: which version of something is meant (RFC 9110 section 8.8.3)."""

ANY_VERSION = "*"
"""Means whatever version is there, but not that nothing is there (RFC 9110 section 13.1.1)."""
