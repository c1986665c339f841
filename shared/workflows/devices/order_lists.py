"""Lists of devices, as people and their systems write them: read device by device, and never held as a whole.

A list is a JSON array of devices, or CSV with a header of the same names: its first character says which. CSV is taken
as Excel and ERPs make it: comma, semicolon, tab or ``|``; any case of the header; blank rows, columns and blanks around
cells, any line end; UTF-8 with or without a byte order mark, or UTF-16 with one.

What is wrong with the list as a whole is refused as a whole. What is wrong with one device is said of that device.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Rejected
from shared.reading.json_text import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FIELD = "devicesUrl"
DEVICES_LIMIT = 1_000_000
"""Devices of one list."""

ENTRY_LIMIT = 256 * 1024
"""Characters of one device of a list: a CSR and a twin take a quarter of it."""

_BEGINNINGS = {
    b"PK\x03\x04": "a ZIP file, such as an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook, or another document of Office",
    b"\x1f\x8b": "compressed with gzip",
}
"""What the files begin with that are taken for lists (their formats' own signatures)."""

_LONGEST_BEGINNING = 4
_COLUMNS_LIMIT = 1000
_SEPARATORS = ",;\t|"
_COLUMNS = {"registrationid": "registrationId", "csr": "csr", "keyalgorithm": "keyAlgorithm"}
_OBJECTS = (("tags",), ("initialTwin", "tags"), ("initialTwin", "properties", "desired"))
COLUMNS = (*_COLUMNS.values(), *(".".join((*path, "<name>")) for path in _OBJECTS))
"""The columns of a list in CSV; a name may have dots of its own, one for each level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One device of a list.

    Attributes:
        number: its index in an array, from 0, or the line of a CSV file on which it begins, from 1.
        device: what stands there, to be checked.
        fault: why it can't be read; then ``device`` is what could be.
        in_lines: whether the number is that of a line.
    """

    number: int
    device: Any
    fault: Rejected | None = None
    in_lines: bool = False

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return self.place_of(self.number)

    def place_of(self, number: int) -> str:
        """Give the place of another one of the same list."""
        return f"line {number}" if self.in_lines else f"devices[{number}]"


def listed(devices: Iterable[Any]) -> Iterator[Listed]:
    """Give the devices that stand in an order itself."""
    return (Listed(number=index, device=device) for index, device in enumerate(devices))


def read_list(parts: Iterable[bytes], name: str) -> Iterator[Listed]:
    """Read a list of devices, as its parts come.

    Args:
        parts: the file, cut anywhere.
        name: of the file, for messages.

    Raises:
        Rejected: it can't be read; found as late as it stands there.
    """
    try:
        yield from _counted(_entries(_texts(parts)))
    except _Unreadable as fault:
        raise Rejected.because(f"{name!r}{fault}", field=FIELD) from None


class _Unreadable(ValueError):
    """Why a list can't be read: what follows its name in the message."""


def _counted(entries: Iterator[Listed]) -> Iterator[Listed]:
    empty = True
    for count, entry in enumerate(entries):
        if count == DEVICES_LIMIT:
            raise _Unreadable(f" has more than {DEVICES_LIMIT} devices; split it into several orders")
        empty = False
        yield entry
    if empty:
        raise _Unreadable(f" has no devices; give 1 to {DEVICES_LIMIT}")


def _entries(texts: Iterator[str]) -> Iterator[Listed]:
    for text in texts:
        start = text.lstrip()
        if start:
            break
    else:
        return iter(())
    whole = itertools.chain([text], texts)
    return _of_json(whole) if start[0] in "[{" else _of_csv(whole)


# --- text ---


def _texts(parts: Iterable[bytes]) -> Iterator[str]:
    """Decode a file part by part; every line end becomes one newline."""
    remaining = iter(parts)
    first = b""
    for part in remaining:
        first += part
        if len(first) >= _LONGEST_BEGINNING:
            break
    for beginning, kind in _BEGINNINGS.items():
        if first.startswith(beginning):
            raise _Unreadable(f" is {kind}; save it as CSV in UTF-8")
    encoding = "utf-16" if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line = 1
    for part, final in itertools.chain(((each, False) for each in itertools.chain([first], remaining)), [(b"", True)]):
        try:
            text = decoder.decode(part, final=final)
        except UnicodeDecodeError as error:
            raise _Unreadable(_undecodable(error, line)) from None
        if "\0" in text:
            raise _Unreadable(" has NUL characters; save it as UTF-8")
        line += text.count("\n")
        yield text


def _undecodable(error: UnicodeDecodeError, line: int) -> str:
    if error.encoding.startswith("utf-16"):
        return " begins as UTF-16 and is not; save it as UTF-8"
    before = error.object[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    octet = error.object[error.start : error.start + 1]
    as_windows = octet.decode("cp1252", errors="replace")
    return (
        f", line {line + before.count(b'\n')}: byte 0x{octet.hex().upper()} is not UTF-8; in Windows-1252 it is "
        f"{as_windows!r}: save the file as UTF-8 (Excel: 'CSV UTF-8')"
    )


# --- JSON ---


def _of_json(texts: Iterator[str]) -> Iterator[Listed]:
    text = _Text(texts=texts)
    if text.next_character() != "[":
        raise _Unreadable(" is a JSON object; give an array of devices, or CSV")
    text.skip()
    if text.next_character() == "]":
        text.skip()
    else:
        yield from _elements(text)
    if text.next_character():
        raise _Unreadable(" goes on after the end of its array")


def _elements(text: _Text) -> Iterator[Listed]:
    for index in itertools.count():
        place = f"devices[{index}]"
        element = text.element(place)
        try:
            yield Listed(number=index, device=_without_blanks(read_json(element)))
        except ValueError as error:
            yield Listed(
                number=index, device=None, fault=Rejected.because(f"it is not valid JSON: {error}", field=place)
            )
        end = text.next_character()
        text.skip()
        if end == "]":
            return
        if end != ",":
            raise _Unreadable(f": after {place} comes {end!r} and not ',' or ']'" if end else f" ends after {place}")


def _without_blanks(device: Any) -> Any:
    return {key: value for key, value in device.items() if value != ""} if isinstance(device, dict) else device


class _Text:
    """A text that is read on as needed: what was read is let go."""

    def __init__(self, *, texts: Iterator[str]) -> None:
        self._texts = texts
        self._held = ""
        self._position = 0
        self._scan = json.JSONDecoder().raw_decode

    def _read_on(self) -> bool:
        following = next(self._texts, None)
        self._held = self._held[self._position :] + (following or "")
        self._position = 0
        return following is not None

    def next_character(self) -> str:
        """Give the next character that is not white space, without going past it; empty at the end."""
        while True:
            while self._position < len(self._held):
                if not self._held[self._position].isspace():
                    return self._held[self._position]
                self._position += 1
            if not self._read_on():
                return ""

    def skip(self) -> None:
        """Go past one character."""
        self._position += 1

    def element(self, place: str) -> str:
        """Give the text of the next value of an array, and go past it."""
        self.next_character()
        more = True
        while True:
            fault = f"it has more than {ENTRY_LIMIT} characters"
            try:
                _, end = self._scan(self._held, self._position)
                # What ends with what was read, such as a number, may go on.
                if (end < len(self._held) or not more) and end - self._position <= ENTRY_LIMIT:
                    start, self._position = self._position, end
                    return self._held[start:end]
            except RecursionError:
                raise _Unreadable(f": {place} is nested too deep") from None
            except ValueError as error:
                fault = f"it is not valid JSON: {getattr(error, 'msg', error)}"
            if not more or len(self._held) - self._position > ENTRY_LIMIT:
                raise _Unreadable(f": {place}: {fault}")
            more = self._read_on()


# --- CSV ---


def _of_csv(texts: Iterator[str]) -> Iterator[Listed]:
    lines = enumerate(_lines(texts), 1)
    number, header, separator = _header(lines)
    rows = csv.reader(
        itertools.chain([header], (line for _, line in lines)),
        delimiter=separator,
        skipinitialspace=True,
        strict=True,
    )
    paths: list[tuple[str, ...] | None] | None = None
    while True:
        before = rows.line_num
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _Unreadable(f", line {number + before}: {error}") from None
        if row is None:
            return
        if paths is None:
            paths = _paths(row, number)
            continue
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield _row(number + before, cells, paths)


def _lines(texts: Iterator[str]) -> Iterator[str]:
    held = ""
    for text in texts:
        *whole, held = (held + text).split("\n")
        yield from (f"{line}\n" for line in whole)
        if len(held) > ENTRY_LIMIT:
            raise _Unreadable(f" is neither a JSON array nor CSV: a line has more than {ENTRY_LIMIT} characters")
    if held:
        yield held


def _header(lines: Iterator[tuple[int, str]]) -> tuple[int, str, str]:
    """Give the line with the names of the columns, its number, and what separates them."""
    for number, line in lines:
        text = line.strip()
        if text.lower().startswith("sep=") and len(text) == len("sep=;"):  # Excel's own hint
            continue
        if text:
            return number, line, max(_SEPARATORS, key=line.count)
    raise _Unreadable(" does not have a line with the names of the columns")


def _paths(names: Sequence[str], number: int) -> list[tuple[str, ...] | None]:
    """Find what each column holds; ``None`` for one without a name."""
    if len(names) > _COLUMNS_LIMIT:
        raise _Unreadable(f", line {number}: there are {len(names)} columns; at most {_COLUMNS_LIMIT} are read")
    names = [name.strip() for name in names]
    known = [_path(name) for name in names]
    columns = f"columns are {', '.join(COLUMNS)}"
    unknown = [name[:64] for name, path in zip(names, known, strict=True) if name and path is None]
    if unknown:
        shown = ", ".join(map(repr, unknown[:10])) + (f" and {len(unknown) - 10} more" if unknown[10:] else "")
        raise _Unreadable(f", line {number}: a device list does not have these columns: {shown}; {columns}")
    paths = [path for path in known if path is not None]
    for path in paths:
        if paths.count(path) > 1 or any(other[: len(path)] == path != other for other in paths):
            raise _Unreadable(f", line {number}: there is more than one column for {'.'.join(path)!r}; {columns}")
    if ("registrationId",) not in paths:
        raise _Unreadable(f", line {number}: the column registrationId is missing; {columns}")
    return known


def _path(name: str) -> tuple[str, ...] | None:
    if name.lower() in _COLUMNS:
        return (_COLUMNS[name.lower()],)
    parts = tuple(name.split("."))
    for path in _OBJECTS:
        begins = tuple(part.lower() for part in parts[: len(path)]) == tuple(part.lower() for part in path)
        if begins and len(parts) > len(path) and all(parts):
            return (*path, *parts[len(path) :])
    return None


def _row(number: int, cells: Sequence[str], paths: Sequence[tuple[str, ...] | None]) -> Listed:
    device: dict[str, Any] = {}
    beyond = []
    for cell, path in itertools.zip_longest(cells, paths):
        if not cell:
            continue
        if path is None:
            beyond.append(cell)
        else:
            *above, last = path
            held = device
            for part in above:
                held = held.setdefault(part, {})
            held[last] = cell
    if not beyond:
        return Listed(number=number, device=device, in_lines=True)
    fault = f"{beyond[0][:64]!r} stands in a column without a name; name the column, or leave the cell empty"
    return Listed(number=number, device=device, fault=Rejected.because(fault, field=f"line {number}"), in_lines=True)
