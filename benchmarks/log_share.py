"""What the log of certificates adds to an order: the same order with the log and without it, in turns.

See :mod:`tests.unit.evidence.timed_orders` for the services and for the time.
"""

from __future__ import annotations

import logging
import statistics
import sys

from tests.unit.evidence.timed_orders import AT_ONCE, REGISTRATION, Taken, once

DEVICES, ROUNDS = 200, 15


def measured(devices: int, rounds: int, registration: float) -> dict[bool, list[Taken]]:
    """Carry orders out with the log and without it, in turns, after one of each that does not count."""
    found: dict[bool, list[Taken]] = {True: [], False: []}
    for turn in range(rounds + 1):
        for logged in (True, False)[:: -1 if turn % 2 else 1]:
            taken = once(devices, registration, logged=logged)
            if turn:
                found[logged].append(taken)
    return found


def show(devices: int, rounds: int, registration: float) -> None:
    """Measure, and print."""
    found = measured(devices, rounds, registration)
    pairs = list(zip(found[True], found[False], strict=True))
    on, off = (statistics.median(each.seconds for each in found[logged]) for logged in (True, False))
    print(f"{devices} devices, {registration:g} s a registration: {on:.2f} s with the log, {off:.2f} s without it")
    _line("time", [on.seconds / off.seconds for on, off in pairs])
    _line("processor", [on.processor / off.processor for on, off in pairs])
    _line("operations on storage", [on.operations / off.operations for on, off in pairs])
    added = statistics.median(1000 * (on.processor - off.processor) / devices for on, off in pairs)
    print(f"  the log takes {added:.2f} ms of the processor a device")


def _line(what: str, ratios: list[float]) -> None:
    least, middle, most = (100 * (each - 1) for each in (min(ratios), statistics.median(ratios), max(ratios)))
    print(f"  {what:22} {middle:+6.1f} %  ({least:+.1f} to {most:+.1f})")


def main(devices: int = DEVICES, rounds: int = ROUNDS) -> None:
    """Measure, and print."""
    logging.disable(logging.CRITICAL)
    for registration in (REGISTRATION, AT_ONCE):
        show(devices, rounds, registration)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
