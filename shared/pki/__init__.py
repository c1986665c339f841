"""The certificate engine: pure. No Azure, no I/O, and no clock but the time that is passed in."""
