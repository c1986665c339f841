"""A stack whose functions hosts are started again when they end, as Azure starts them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devstack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class KeptUp(Stack):
    """A stack with one functions host; after its start nobody waits for a host that is started again."""

    __slots__ = ("is_up",)

    @property
    def ports(self) -> Mapping[str, int]:
        """Where each host listens."""
        return {"functions_host": self.options.functions_port}

    @property
    def hosts(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.ports)

    def start_functions_host(self) -> None:
        """Start all hosts, and wait for them."""
        self.is_up = False
        for name in self.hosts:
            self.start_host(name)
        self.is_up = True

    def start_host(self, name: str) -> None:
        """Start one of them."""
        settings = self._written("local.settings.json", self.settings())
        ready = self._spawn_host(name, settings, self.ports[name])
        if name == "functions_host" and ready:
            self._host = ready

    def keep_up(self) -> list[str]:
        """Start the hosts again that have ended by themselves; give their names."""
        ended = [name for name in self.hosts if self.has_ended(name)]
        for name in ended:
            self.end(name)
            self.start_host(name)
        return ended

    def _spawn_until_ready(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
        """Do not wait for a host that is started again: the work goes on meanwhile."""
        if name not in self.hosts or not self.is_up:
            return super()._spawn_until_ready(name, command, environment)
        self._spawn(name, command, environment, piped=True)
        return {}
