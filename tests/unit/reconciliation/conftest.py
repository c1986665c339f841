"""The tests of reconciliation have the world's triggers, one worker at a time."""

from tests.world.conftest import changed, serving

__all__ = ["changed", "serving"]
