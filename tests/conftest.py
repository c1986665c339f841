"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The same inputs on every machine and in every run; the longer, random runs are in benchmarks/.
settings.register_profile("same-every-time", derandomize=True, database=None, deadline=None)
settings.load_profile("same-every-time")
