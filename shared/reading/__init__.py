"""Readers of what others send, one for each form.

Each refuses by name what it does not read, and says what would be right.
"""
