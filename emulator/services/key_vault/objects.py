"""What keys and secrets have in common: names, versions, attributes, tags, and deletion in two steps.

A name, whatever its case, is one document in the store that holds all its versions, the newest last. Deleting moves the
document aside; until it is purged, or its retention ends, the name can't be used again.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.services.key_vault import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from emulator.platform.store import Store

NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
RETENTION_DAYS = 90
RECOVERY_LEVEL = "Recoverable+Purgeable"
SECONDS_PER_DAY = 86_400
MAX_TAGS = 15
MAX_TAG_CHARACTERS = 256
TIMES = ("nbf", "exp")


@dataclass(frozen=True, slots=True)
class Noun:
    """How a sort of object is called: in texts, in the paths, and in the paths of deleted ones."""

    singular: str
    collection: str
    deleted_collection: str


KEY = Noun("key", "keys", "deletedkeys")
SECRET = Noun("secret", "secrets", "deletedsecrets")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a named object.

    Attributes:
        name: as it was first written.
        version: 32 hexadecimal digits.
        attributes: enabled, created, updated, and nbf and exp if set (Unix seconds).
        tags: the user's own.
        content: what only keys or only secrets have; private parts among it.
    """

    name: str
    version: str
    attributes: Mapping[str, Any]
    tags: Mapping[str, str]
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted object: its newest version, and when it was deleted and will be gone (Unix seconds)."""

    newest: Version
    deleted_date: int
    scheduled_purge_date: int


class VersionedObjects:
    """All keys, or all secrets, of the vault."""

    def __init__(self, noun: Noun, store: Store, clock: Callable[[], datetime]) -> None:
        self.noun = noun
        self._store = store
        self._clock = clock

    def now(self) -> int:
        """The present moment in Unix seconds."""
        return int(self._clock().timestamp())

    def add(
        self, name: str, content: Mapping[str, Any], attributes: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Version:
        """Make a new version, and the object with it if there is none.

        Raises:
            WireError: the name breaks its rule (400), or belongs to a deleted object (409).
        """
        self.check_free(name)
        now = self.now()
        document = self._store.get(self.noun.collection, name.lower()) or {"name": name, "versions": []}
        version = {
            "version": uuid.uuid4().hex,
            "attributes": {"enabled": True, **attributes, "created": now, "updated": now},
            "tags": dict(tags),
            "content": dict(content),
        }
        document["versions"].append(version)
        self._store.put(self.noun.collection, name.lower(), document)
        return _version(document, version)

    def check_free(self, name: str) -> None:
        """Raise unless a version may be added under this name."""
        if not NAME.fullmatch(name):
            raise errors.bad_parameter(
                f"The request URI contains an invalid name: {name!r}; a name has 1 to 127 letters, digits and dashes."
            )
        if self._deleted(name) is not None:
            raise errors.deleted_but_recoverable(self.noun.singular, name)

    def get(self, name: str, version: str) -> Version:
        """Find a version; the newest for "".

        Raises:
            WireError: it does not exist (404).
        """
        document = self._store.get(self.noun.collection, name.lower())
        found = None if document is None else _find(document, version)
        if document is None or found is None:
            raise errors.not_found(self.noun.singular, f"{name}/{version}" if version else name)
        return _version(document, found)

    def change(
        self,
        name: str,
        version: str,
        *,
        attributes: Mapping[str, Any],
        tags: Mapping[str, str] | None,
        content: Mapping[str, Any],
    ) -> Version:
        """Change what is given; tags are replaced as a whole, None leaves them.

        Raises:
            WireError: the version does not exist (404).
        """
        found = self.get(name, version)
        document = self._store.get(self.noun.collection, name.lower()) or {}
        changed = next(item for item in document["versions"] if item["version"] == found.version)
        changed["attributes"] |= {**attributes, "updated": self.now()}
        changed["content"] |= content
        if tags is not None:
            changed["tags"] = dict(tags)
        self._store.put(self.noun.collection, name.lower(), document)
        return _version(document, changed)

    def names(self, after: str, limit: int) -> list[tuple[str, Version]]:
        """A page of (position, newest version), in the order of names."""
        page = self._store.scan(self.noun.collection, after=after, limit=limit)
        return [(key, _version(document, document["versions"][-1])) for key, document in page]

    def versions(self, name: str, after: str, limit: int) -> list[tuple[str, Version]]:
        """A page of (position, version), in the order of version ids.

        Raises:
            WireError: the object does not exist (404).
        """
        self.get(name, "")
        document = self._store.get(self.noun.collection, name.lower()) or {}
        ordered = sorted(document["versions"], key=lambda item: str(item["version"]))
        page = [item for item in ordered if item["version"] > after][:limit]
        return [(item["version"], _version(document, item)) for item in page]

    def delete(self, name: str) -> Deleted:
        """Move an object aside, with all its versions.

        Raises:
            WireError: it does not exist (404).
        """
        self.get(name, "")
        document = self._store.get(self.noun.collection, name.lower()) or {}
        now = self.now()
        document |= {"deletedDate": now, "scheduledPurgeDate": now + RETENTION_DAYS * SECONDS_PER_DAY}
        with self._store.transaction():
            self._store.delete(self.noun.collection, name.lower())
            self._store.put(self.noun.deleted_collection, name.lower(), document)
        return _deleted_object(document)

    def get_deleted(self, name: str) -> Deleted:
        """Find a deleted object.

        Raises:
            WireError: it does not exist (404).
        """
        return _deleted_object(self._deleted_or_raise(name))

    def deleted_names(self, after: str, limit: int) -> list[tuple[str, Deleted]]:
        """A page of (position, deleted object), in the order of names."""
        return [(key, _deleted_object(document)) for key, document in self._recoverable(after, limit)]

    def recover(self, name: str) -> Version:
        """Bring a deleted object back as it was.

        Raises:
            WireError: it does not exist (404).
        """
        document = self._deleted_or_raise(name)
        del document["deletedDate"], document["scheduledPurgeDate"]
        with self._store.transaction():
            self._store.delete(self.noun.deleted_collection, name.lower())
            self._store.put(self.noun.collection, name.lower(), document)
        return _version(document, document["versions"][-1])

    def purge(self, name: str) -> None:
        """Remove a deleted object for good.

        Raises:
            WireError: it does not exist (404).
        """
        self._deleted_or_raise(name)
        self._store.delete(self.noun.deleted_collection, name.lower())

    def _deleted_or_raise(self, name: str) -> dict[str, Any]:
        document = self._deleted(name)
        if document is None:
            raise errors.deleted_not_found(self.noun.singular, name)
        return document

    def _deleted(self, name: str) -> dict[str, Any] | None:
        """The deleted document; one whose retention has ended is gone."""
        document = self._store.get(self.noun.deleted_collection, name.lower())
        if document is not None and document["scheduledPurgeDate"] <= self.now():
            self._store.delete(self.noun.deleted_collection, name.lower())
            return None
        return document

    def _recoverable(self, after: str, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
        now = self.now()
        for key, document in self._store.scan(self.noun.deleted_collection, after=after):
            if limit == 0:
                return
            if document["scheduledPurgeDate"] > now:
                limit -= 1
                yield key, document


def parse_attributes(body: Any) -> dict[str, Any]:
    """Read ``attributes`` of a request: enabled, nbf, exp; what the vault sets itself is passed over.

    Raises:
        WireError: a value breaks its rule (400).
    """
    if body is None:
        return {}
    if not isinstance(body, Mapping):
        raise errors.bad_parameter("attributes is not an object.")
    if body.get("exportable"):
        raise errors.bad_parameter("attributes.exportable: this vault makes no exportable keys.")
    attributes: dict[str, Any] = {}
    if body.get("enabled") is not None:
        if not isinstance(body["enabled"], bool):
            raise errors.bad_parameter(f"attributes.enabled is {body['enabled']!r}; it must be true or false.")
        attributes["enabled"] = body["enabled"]
    for name in TIMES:
        if body.get(name) is not None:
            if not isinstance(body[name], int) or isinstance(body[name], bool):
                raise errors.bad_parameter(f"attributes.{name} is {body[name]!r}; it must be a time in Unix seconds.")
            attributes[name] = body[name]
    if "nbf" in attributes and "exp" in attributes and attributes["nbf"] >= attributes["exp"]:
        raise errors.bad_parameter("attributes.exp must be later than attributes.nbf.")
    return attributes


def parse_tags(body: Any) -> dict[str, str] | None:
    """Read ``tags`` of a request: at most 15 pairs of text, 256 characters each.

    Raises:
        WireError: they break their rule (400).
    """
    if body is None:
        return None
    if not isinstance(body, Mapping) or not all(isinstance(value, str) for value in body.values()):
        raise errors.bad_parameter("tags is not an object whose values are texts.")
    if len(body) > MAX_TAGS:
        raise errors.bad_parameter(f"tags has {len(body)} entries; at most {MAX_TAGS} are allowed.")
    for name, value in body.items():
        if max(len(name), len(value)) > MAX_TAG_CHARACTERS:
            raise errors.bad_parameter(f"The tag {name[:40]!r} is longer than {MAX_TAG_CHARACTERS} characters.")
    return dict(body)


def _find(document: Mapping[str, Any], version: str) -> dict[str, Any] | None:
    versions: list[dict[str, Any]] = document["versions"]
    if not version:
        return versions[-1]
    return next((item for item in versions if item["version"] == version.lower()), None)


def _version(document: Mapping[str, Any], item: Mapping[str, Any]) -> Version:
    return Version(document["name"], item["version"], item["attributes"], item["tags"], item["content"])


def _deleted_object(document: Mapping[str, Any]) -> Deleted:
    newest = _version(document, document["versions"][-1])
    return Deleted(newest, document["deletedDate"], document["scheduledPurgeDate"])
