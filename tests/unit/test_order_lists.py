"""Lists of devices as people and their systems write them: read device by device, or refused with what would be right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import DeviceRequest
from shared.errors import Rejected
from shared.workflows.devices import order_lists
from shared.workflows.devices.order_lists import COLUMNS, ENTRY_LIMIT, listed, read_list

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B = {"registrationId": "a", "keyAlgorithm": "EC-P256"}, {"registrationId": "b"}
KNOWN = (
    "columns are registrationId, csr, keyAlgorithm, tags.<name>, initialTwin.tags.<name>, "
    "initialTwin.properties.desired.<name>"
)


def read(content: bytes) -> list[tuple[str, Any]]:
    return [(each.place, str(each.fault) if each.fault else each.device) for each in read_list([content], "list")]


def devices(content: bytes) -> list[Any]:
    return [device for _, device in read(content)]


def refusal(content: bytes) -> str:
    with pytest.raises(Rejected) as refused:
        read(content)
    [reason] = refused.value.reasons
    assert reason.field == "devicesUrl"
    return reason.message


@pytest.mark.parametrize(
    "text",
    [
        "registrationId,keyAlgorithm\na,EC-P256\nb,\n",
        "registrationId,keyAlgorithm\r\na,EC-P256\r\nb,",
        "registrationId,keyAlgorithm\ra,EC-P256\rb,\r",
        "registrationId;keyAlgorithm\r\na;EC-P256\r\nb;\r\n",
        "registrationId\tkeyAlgorithm\na\tEC-P256\nb\t\n",
        "registrationId|keyAlgorithm\na|EC-P256\nb|\n",
        "sep=;\r\nregistrationId;keyAlgorithm\r\na;EC-P256\r\nb;\r\n",
        '"registrationId","keyAlgorithm"\r\n"a","EC-P256"\r\n"b",""\r\n',
        "REGISTRATIONID,KeyAlgorithm\na,EC-P256\nb,\n",
        " registrationId , keyAlgorithm \n a , EC-P256 \n b , \n",
        'registrationId, "keyAlgorithm"\na, "EC-P256"\nb, ""\n',
        "registrationId,keyAlgorithm\na,EC-P256,\nb,,\n",
        "registrationId,keyAlgorithm,\na,EC-P256,\nb,,\n",
        "\n  \nregistrationId,keyAlgorithm\n\n,\na,EC-P256\n\nb,\n,\n,,,\n",
        "keyAlgorithm,registrationId\nEC-P256,a\n,b\n",
    ],
    ids=[
        "comma and LF",
        "CRLF, none at the end",
        "CR",
        "semicolon",
        "tab",
        "bar",
        "Excel's hint of the separator",
        "quoted",
        "other case",
        "blanks around cells",
        "blanks before quotation marks",
        "a separator at the end of rows",
        "a separator at the end of all rows",
        "blank rows",
        "another order of columns",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_is_read_in_the_forms_that_excel_and_erps_give_it(text: str, encoding: str) -> None:
    """The same two devices, whatever wrote them down."""
    assert devices(text.encode(encoding)) == [A, B]


def test_a_dotted_column_is_a_level_of_its_own() -> None:
    """Tags and desired properties have a column each; their names keep their case, an empty cell leaves one out."""
    content = (
        "registrationId;tags.plant;Tags.line.Name;initialTwin.tags.x;INITIALTWIN.PROPERTIES.DESIRED.rate\n"
        "a;München;press;1;5\nb;;;;\n"
    )
    assert devices(content.encode()) == [
        {
            "registrationId": "a",
            "tags": {"plant": "München", "line": {"Name": "press"}},
            "initialTwin": {"tags": {"x": "1"}, "properties": {"desired": {"rate": "5"}}},
        },
        {"registrationId": "b"},
    ]


def test_a_place_is_a_line_of_the_file() -> None:
    """Blank rows and cells with line ends count, as they do in an editor."""
    content = b'\nregistrationId,csr\n\na,"one\ntwo"\n,\nb,\nc,,beyond\n'
    assert read(content) == [
        ("line 4", {"registrationId": "a", "csr": "one\ntwo"}),
        ("line 7", {"registrationId": "b"}),
        (
            "line 8",
            "line 8: 'beyond' stands in a column without a name; name the column, or leave the cell empty",
        ),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"registrationId,Werk,Ort\na,1,2\n",
            f"'list', line 1: a device list does not have these columns: 'Werk', 'Ort'; {KNOWN}",
        ),
        (b"\n\na,b\n", f"'list', line 3: a device list does not have these columns: 'a', 'b'; {KNOWN}"),
        (b"registrationId,tags\n", f"'list', line 1: a device list does not have these columns: 'tags'; {KNOWN}"),
        (b"registrationId,tags.\n", f"'list', line 1: a device list does not have these columns: 'tags.'; {KNOWN}"),
        (b"keyAlgorithm,csr\n", f"'list', line 1: the column registrationId is missing; {KNOWN}"),
        (
            b"registrationId,RegistrationId\n",
            f"'list', line 1: there is more than one column for 'registrationId'; {KNOWN}",
        ),
        (
            b"registrationId,tags.a.b,tags.a\n",
            f"'list', line 1: there is more than one column for 'tags.a'; {KNOWN}",
        ),
        (
            b"registrationId" + b"," * 1000 + b"\n",
            "'list', line 1: there are 1001 columns; at most 1000 are read",
        ),
        (b"", "'list' has no devices; give 1 to 1000000"),
        (b"\xef\xbb\xbf \r\n", "'list' has no devices; give 1 to 1000000"),
        (b"registrationId\n\n", "'list' has no devices; give 1 to 1000000"),
        (b"[]", "'list' has no devices; give 1 to 1000000"),
        (b"sep=;\n", "'list' does not have a line with the names of the columns"),
        (
            "registrationId,tags.plant\r\na,x\r\nb,Köln\r\n".encode("cp1252"),
            "'list', line 3: byte 0xF6 is not UTF-8; in Windows-1252 it is 'ö': save the file as UTF-8 (Excel: 'CSV UTF-8')",
        ),
        (b"PK\x03\x04\x14\x00", "'list' is a ZIP file, such as an Excel workbook; save it as CSV in UTF-8"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1",
            "'list' is an old Excel workbook, or another document of Office; save it as CSV in UTF-8",
        ),
        (b"\x1f\x8b\x08\x00", "'list' is compressed with gzip; save it as CSV in UTF-8"),
        (b"\xff\xfea\x00\x00\xd8", "'list' begins as UTF-16 and is not; save it as UTF-8"),
        ("registrationId\na\n".encode("utf-16-le"), "'list' has NUL characters; save it as UTF-8"),
        (b'registrationId\na\n"b\nc\n', "'list', line 3: unexpected end of data"),
        (b'registrationId\na\n"b"c\n', "'list', line 3: ',' expected after '\"'"),
        (
            b"registrationId\n" + b"a" * (ENTRY_LIMIT + 1),
            "'list' is neither a JSON array nor CSV: a line has more than 262144 characters",
        ),
        (b"registrationId\na\n" + b"b" * 140_000, "'list', line 3: field larger than field limit (131072)"),
        (b'{"devices": []}', "'list' is a JSON object; give an array of devices, or CSV"),
        (b'[{"registrationId": "a"}', "'list' ends after devices[0]"),
        (b'[{"registrationId": "a"}}', "'list': after devices[0] comes '}' and not ',' or ']'"),
        (b'[{"registrationId": "a"},]', "'list': devices[1]: it is not valid JSON: Expecting value"),
        (b'[{"registrationId": "a"}, {"b": 01}]', "'list': devices[1]: it is not valid JSON: Expecting ',' delimiter"),
        (b'[{"registrationId": "a"}] x', "'list' goes on after the end of its array"),
        (
            b'[{"registrationId": "' + b"a" * ENTRY_LIMIT + b'"}]',
            "'list': devices[0]: it has more than 262144 characters",
        ),
        (b"[[" + b"1," * ENTRY_LIMIT + b"1]]", "'list': devices[0]: it has more than 262144 characters"),
        (b"[" + b"[" * 100_000, "'list': devices[0] is nested too deep"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_once(content: bytes, expected: str) -> None:
    """One refusal of the whole file, with the line and with what would be right."""
    assert refusal(content) == expected


def test_a_wrong_character_is_told_by_its_line_in_the_file_however_it_came_in_parts() -> None:
    """Whoever looks for it looks in the file, and not in the part of it that was read."""
    parts = [b"registrationId\na\n", b"b\r", b"\nc\n", b"d\ne\xfc\n"]
    with pytest.raises(Rejected, match="'list', line 6: byte 0xFC is not UTF-8"):
        list(read_list(parts, "list"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_as_it_stands(encoding: str) -> None:
    """An array of devices; an empty text is the same as none; what is not a device is there to be refused as one."""
    text = ' [ {"registrationId": "a", "keyAlgorithm": "EC-P256"},\r\n{"registrationId":"b","csr":""}, 7, null,"x" ] \n'
    assert read(text.encode(encoding)) == [
        ("devices[0]", A),
        ("devices[1]", B),
        ("devices[2]", 7),
        ("devices[3]", None),
        ("devices[4]", "x"),
    ]


def test_a_device_that_is_no_text_does_not_stop_the_others() -> None:
    """Half of a surrogate pair spoils its own device."""
    [(_, fault), (_, second)] = read(rb'[{"registrationId": "\ud800"}, {"registrationId": "b"}]')
    assert fault.startswith("devices[0]: it is not valid JSON: ")
    assert second == B


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    values=st.lists(
        st.dictionaries(TEXTS, st.one_of(st.integers(), TEXTS.filter(bool), st.none())), min_size=1, max_size=5
    ),
    cut=st.integers(1, 7),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    indent=st.sampled_from([None, 1]),
)
def test_json_is_the_same_however_it_is_cut(
    values: list[dict[str, Any]], cut: int, encoding: str, indent: int | None
) -> None:
    """The parts in which a file comes may end within a character, a number or a word."""
    content = json.dumps(values, ensure_ascii=False, indent=indent).encode(encoding)
    parts = [content[start : start + cut] for start in range(0, len(content), cut)]
    assert [each.device for each in read_list(parts, "list")] == values


@given(
    rows=st.lists(st.text("ab \n\r\"';,äß", min_size=1).filter(str.strip), min_size=1, max_size=5),
    cut=st.integers(1, 7),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_csv_is_the_same_however_it_is_cut(rows: list[str], cut: int, encoding: str) -> None:
    """A quoted cell keeps what stands in it, but for its outer blanks, and every line end is one newline."""
    quoted = ['"' + row.replace('"', '""') + '"' for row in rows]
    content = "\r\n".join(["registrationId;csr", *(f"x;{row}" for row in quoted)]).encode(encoding)
    parts = [content[start : start + cut] for start in range(0, len(content), cut)]
    expected = [row.replace("\r\n", "\n").replace("\r", "\n").strip() for row in rows]
    assert [each.device["csr"] for each in read_list(parts, "list")] == expected


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_list_is_never_held_as_a_whole(form: str) -> None:
    """However long a list is: what was read of it and not given out yet is three parts at most."""
    read_in, given_out, ahead = 0, 0, 0

    def parts() -> Iterator[bytes]:
        nonlocal read_in
        yield b"registrationId\n" if form == "csv" else b"["
        for _ in range(200):
            read_in += 50
            yield b"a\n" * 50 if form == "csv" else b'"a",' * 50
        yield b"last\n" if form == "csv" else b'"last"]'

    for _ in read_list(parts(), "list"):
        given_out += 1
        ahead = max(ahead, read_in - given_out)
    assert given_out == 200 * 50 + 1
    assert ahead <= 3 * 50


def test_a_list_is_refused_as_soon_as_it_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind the limit, which is a million, is not read."""
    assert order_lists.DEVICES_LIMIT == 1_000_000
    monkeypatch.setattr(order_lists, "DEVICES_LIMIT", 1000)
    asked = 0

    def parts() -> Iterator[bytes]:
        nonlocal asked
        yield b"registrationId\n"
        while True:
            asked += 1
            yield b"a\n" * 100

    entries = read_list(parts(), "list")
    assert sum(1 for _ in zip(range(1000), entries, strict=False)) == 1000
    with pytest.raises(Rejected) as refused:
        next(entries)
    assert str(refused.value) == "devicesUrl: 'list' has more than 1000 devices; split it into several orders"
    assert asked <= 12


def test_the_columns_are_the_fields_of_a_device() -> None:
    """Every field of a device has its column."""
    fields = {field.alias for field in DeviceRequest.model_fields.values()}
    assert {column.split(".")[0] for column in COLUMNS} == fields


def test_devices_of_an_order_itself_are_named_by_their_index() -> None:
    """As they stand in the order's own array."""
    assert [(each.place, each.device) for each in listed(["x", "y"])] == [("devices[0]", "x"), ("devices[1]", "y")]
