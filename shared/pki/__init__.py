"""The certificate engine: no Azure, no I/O, and no clock but the time that is passed in.

docs/rfc5280.md says what each module holds, and where a rule of RFC 5280 stands: ``make docs``.
"""
