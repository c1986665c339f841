"""Where public sources say different things of the real service, or it has changed: which of them holds here.

A variant has a name and a few values, the first of which is the default. Who tests an app against the emulator runs
the tests under each. The README says which sources say what.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB_THUMBPRINTS: Final = "hubThumbprints"
"""Of the identity that DPS makes at a hub: ``sha256``, the same in both fields, or ``sha1`` in the first alone."""

ENTRY_CERTIFICATES: Final = "entryCertificates"
"""How DPS shows the certificates of an entry: as ``info`` alone, or with the ``certificate`` as it was sent."""

DPS_REGISTRATION: Final = "dpsRegistration"
"""How DPS answers a request to register: ``assigning``, to be looked up, or ``atOnce`` with the outcome."""

KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    HUB_THUMBPRINTS: ("sha256", "sha1"),
    ENTRY_CERTIFICATES: ("info", "certificate"),
    DPS_REGISTRATION: ("assigning", "atOnce"),
}
"""The values of each variant, the default first."""

OPTION_HELP: Final = "; ".join(f"{name}={'|'.join(values)}" for name, values in KNOWN.items()) + " (the first of each)"


class VariantError(ValueError):
    """A variant or a value that does not exist; the text names those that do."""


class Variants:
    """The values that hold now."""

    def __init__(self, chosen: Mapping[str, str] | None = None) -> None:
        """Begin with the defaults, but for what is ``chosen``.

        Raises:
            VariantError: see ``set``.
        """
        self._values = {name: values[0] for name, values in KNOWN.items()}
        self.set(chosen or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def set(self, body: Any) -> None:
        """Change what ``body``, ``{name: value}``, names, and leave the rest.

        Raises:
            VariantError: a name or a value does not exist; nothing is changed.
        """
        if not isinstance(body, dict):
            raise VariantError(f"the variants must be an object {{name: value}} with names out of {', '.join(KNOWN)}")
        for name, value in body.items():
            checked(name, value)
        self._values.update(body)

    def to_json(self) -> dict[str, str]:
        """Give all of them."""
        return dict(self._values)


def checked(name: str, value: Any) -> tuple[str, str]:
    """See that a variant exists and has this value.

    Raises:
        VariantError: it does not.
    """
    if name not in KNOWN:
        raise VariantError(f"the variant {name!r} does not exist; known are: {', '.join(KNOWN)}")
    if value not in KNOWN[name]:
        raise VariantError(f"variant {name}: the value {value!r} does not exist; known are: {', '.join(KNOWN[name])}")
    return name, value


def option_value(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE`` of a command line.

    Raises:
        ArgumentTypeError: see ``checked``.
    """
    name, _, value = text.partition("=")
    try:
        return checked(name, value)
    except VariantError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
