"""CAs and devices that tests issue from, and to."""
