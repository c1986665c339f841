"""Thin entry points: each parses, calls one workflow and maps the outcome."""
