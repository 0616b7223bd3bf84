"""What may have happened to a file: pure functions (content, random numbers) -> (what, content)."""

import copy
import gzip
import io
import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import torch

Mutation = tuple[str, bytes]
Mutate = Callable[[bytes, random.Random], Mutation]

WEIRD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 33, 2**31, 2**63, 2**64, 10**9, 10**30, 1.5, -0.5, 1e308,
    float("nan"), float("inf"), "", "x", "5", "nan", "../../x", "/etc/passwd", [], [1], [0, 5],
    ["a"], {}, {"a": 1}, [[[]]], "\ud800", "\x00", "x" * 5000, "a\nb", "<b>", "\x1b[31m",
]  # fmt: skip
TOML_VALUES = [
    '""', '"x"', "5", "-1", "0", "1e999", "nan", "inf", "true", "[]", "[1]", '["a"]', '["a", "a"]',
    '["a", 1]', "{}", "{a = 1}", "1979-05-27", '"../x"', '"/etc/passwd"', '"."', '"\\u0000"',
    "99999999999999999999", "[5, 0]", "[nan, 1]", "[true, 2]", "1000000000", "[[1]]", '"<b>"',
    '"\\u001b[31m"', '"a\\nb"', '"' + "x" * 3000 + '"', "[0, 5]", '"siamese"', '"sst"', '"mnr"',
]  # fmt: skip
CELLS = [
    "", " ", "nan", "inf", "1e400", "-1", "1_0", "\uff13", "0x1", "True", "9" * 5000, '"', '"a',
    "a\x00b", "\u2028", "\x1b[31m", "\ufeff", "\u200b", "[CLS]", "red " * 3000, "r" * 100000, "{}",
    "null", "1.5", "5", "e\u0301" * 50, "🙂", "a\rb", "=1+1", "NaN",
]  # fmt: skip
ODD_BYTES = [
    b"\0", b"\0" * 100, b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x85", b"\x1c",
    b"\r", b"\x1a", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b'"', b"\\", b"{", b"]",
]  # fmt: skip
DTYPES = ["F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "X", "", None, 3]
EXECUTED = "executed"
FLOATS = {
    "nan": b"\0\0\xc0\x7f", "inf": b"\0\0\x80\x7f", "-inf": b"\0\0\x80\xff",
    "largest": b"\xff\xff\x7f\x7f",
}  # fmt: skip


def flip(data: bytes, rng: random.Random) -> Mutation:
    """Change one to four bits."""
    changed = bytearray(data or b"x")
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return "bits flipped", bytes(changed)


def some_bytes(data: bytes, rng: random.Random) -> Mutation:
    """Change the bytes of a file of any kind."""
    i, j = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    odd, noise = rng.choice(ODD_BYTES), rng.randbytes(rng.choice([1, 4, 30]))
    return rng.choice([
        flip(data, rng), flip(data, rng), flip(data, rng),
        ("cut", data[:i]), ("a hole", data[:i] + data[j:]), ("swapped", data[j:] + data[:j]),
        ("a part twice", data[:j] + data[i:j] + data[j:]),
        ("zeros", data[:i] + b"\0" * (j - i) + data[j:]),
        ("noise", data[:i] + noise + data[i:]), (f"{odd[:4]!r}", data[:i] + odd + data[i:]),
        ("empty", b""), ("utf-16", data.decode(errors="ignore").encode("utf-16")),
    ])  # fmt: skip


def torn(data: bytes, rng: random.Random) -> tuple[str, bytes | None]:
    """Return what a power cut or a bad disk may leave; None: the file is gone."""
    half, size = len(data) // 2, len(data)
    return rng.choice([
        ("gone", None), ("empty", b""), ("half", data[:half]), ("a byte less", data[:-1]),
        ("a byte more", data + b"x"), ("zeros", bytes(size)),
        ("zeros at first", bytes(min(64, size)) + data[64:]),
        ("zeros from the middle", data[:half] + bytes(size - half)),
        *(flip(data, rng) for _ in range(8)),
    ])  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths to all values inside one; of a list's or object's the first 40."""
    yield here
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(inside)[:40]:
        if isinstance(inner, dict | list):
            yield from places(inner, (*here, key))
        else:
            yield (*here, key)


def json_value(value: Any, rng: random.Random) -> tuple[str, Any]:
    """Change, remove or add one value."""
    value, weird = copy.deepcopy(value), rng.choice(WEIRD)
    path = rng.choice(list(places(value)))
    if not path:
        return f"all = {weird!r:.20}", weird
    at = value
    for key in path[:-1]:
        at = at[key]
    name, kind = ".".join(map(str, path)), rng.randrange(10)
    if kind == 0:
        del at[path[-1]]
        return f"{name} gone", value
    if kind == 1 and isinstance(at, dict):
        at[rng.choice(["x", "", "../x", "\x00", "__class__", "<b>"])] = weird
        return f"a key beside {name}", value
    at[path[-1]] = weird
    return f"{name} = {weird!r:.24}", value


def json_file(data: bytes, rng: random.Random) -> Mutation:
    """Change a value of a JSON file, or its bytes."""
    if rng.random() < 0.2:
        return some_bytes(data, rng)
    if rng.random() < 0.03:
        return "too deep", b"[" * 100000
    what, value = json_value(json.loads(data), rng)
    return what, json.dumps(value).encode()


def json_lines(data: bytes, rng: random.Random) -> Mutation:
    """Change a value on one line, or bytes."""
    if rng.random() < 0.3:
        return some_bytes(data, rng)
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    what, lines[at] = json_file(lines[at], rng)
    return f"line {at + 1}: {what}", b"\n".join(lines) + b"\n"


def toml_file(data: bytes, rng: random.Random) -> Mutation:
    """Change a line's value, add one or remove it, or change bytes."""
    kind, lines = rng.random(), data.decode().splitlines()
    if kind < 0.2:
        return some_bytes(data, rng)
    at = rng.choice([i for i, line in enumerate(lines) if "=" in line])
    key, value = lines[at].split("=")[0].strip(), rng.choice(TOML_VALUES)
    if kind < 0.3:
        return f"{key} gone", "\n".join(lines[:at] + lines[at + 1 :]).encode()
    if kind < 0.4:
        key = rng.choice(
            ["id", "test", "title", "metric", "quoting", "columns", "weight", "x", '""']
        )
        lines.insert(at, f"{key} = {value}")
    else:
        lines[at] = f"{key} = {value}"
    return f"{key} = {value:.30}", "\n".join(lines).encode()


def table(data: bytes, rng: random.Random) -> Mutation:
    """Change a cell of a CSV or TSV file, its line ends or bytes."""
    kind, lines = rng.random(), data.split(b"\n")
    if kind < 0.4:
        return some_bytes(data, rng)
    if kind < 0.5:
        return rng.choice([
            ("CR", data.replace(b"\n", b"\r")), ("CRLF", data.replace(b"\n", b"\r\n")),
            ("two marks", b"\xef\xbb\xbf" * 2 + data), ("a header more", lines[0] + b"\n" + data),
            ("only a header", lines[0] + b"\n"), ("no end", data.rstrip(b"\n")),
        ])  # fmt: skip
    at, delimiter = rng.randrange(len(lines) - 1), b"\t" if b"\t" in lines[0] else b","
    cells, cell = lines[at].split(delimiter), rng.choice(CELLS)
    column = rng.randrange(len(cells))
    cells[column] = cell.encode() if rng.random() < 0.7 else cells[column] + cell.encode()
    lines[at] = delimiter.join(cells)
    return f"line {at + 1}, cell {column + 1}: {cell!r:.20}", b"\n".join(lines)


def text(data: bytes, rng: random.Random) -> Mutation:
    """Change a line of plain text, or bytes."""
    if rng.random() < 0.5:
        return some_bytes(data, rng)
    lines, cell = data.split(b"\n"), rng.choice([*CELLS, "red " * 100000, "zzz"])
    lines[rng.randrange(len(lines))] = cell.encode()
    return f"a line {cell!r:.20}", b"\n".join(lines)


def zipped(data: bytes, rng: random.Random) -> Mutation:
    """Change a gzip file, or the table in it."""
    if rng.random() < 0.6:
        return some_bytes(data, rng)
    what, inside = table(gzip.decompress(data), rng)
    return what, gzip.compress(inside, mtime=0)


def safetensors(data: bytes, rng: random.Random) -> Mutation:
    """Change a header's length, an entry of it, a value of the tensors, or bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    name, kind = rng.choice([key for key in header if key != "__metadata__"]), rng.randrange(7)
    shape, end = header[name]["shape"], len(body)
    length: int | None = None
    if kind == 0:
        length = rng.choice([0, 1, size - 1, size + 1, len(data), 10**8 + 1, 2**40, 2**64 - 1])
        what = f"header of {length} bytes"
    elif kind == 1:
        header[name]["dtype"] = rng.choice(DTYPES)
        what = f"{name}: type {header[name]['dtype']}"
    elif kind == 2:
        offsets = [[0, 0], [10, 5], [-1, 3], [0, 2**62], [0, end], [0.5, 3], None, [end, end + 4]]
        header[name]["data_offsets"] = rng.choice(offsets)
        what = f"{name}: offsets {header[name]['data_offsets']}"
    elif kind == 3:
        shapes = [[], [0], [-1], shape[::-1], [*shape, 1], [2**31, 2**31], [1.5], None, 5]
        header[name]["shape"] = rng.choice(shapes)
        what = f"{name}: shape {header[name]['shape']}"
    elif kind == 4:
        what, header = json_value(header, rng)
    elif kind == 5:
        what, at = rng.choice(list(FLOATS)), rng.randrange(end // 4) * 4
        body[at : at + 4] = FLOATS[what]
    else:
        return some_bytes(data, rng)
    raw = json.dumps(header).encode()
    return what, struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(body)


class Code:
    """What unpickles by making a folder: a sign that a file's code was run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (EXECUTED,)


def pickled(data: bytes, rng: random.Random) -> Mutation:
    """Put something else into a file of torch.save, or change bytes."""
    if rng.random() < 0.5:
        return some_bytes(data, rng)
    tensors = torch.load(io.BytesIO(data), weights_only=True)
    name = rng.choice(list(tensors))
    tensor = tensors[name]
    values = {
        "code": Code(), "a number": 3, "nothing": None, "text": "x", "sparse": tensor.to_sparse(),
        "double": tensor.double(), "complex": tensor.to(torch.complex64), "bool": tensor > 0,
        "meta": tensor.to("meta"), "one number": torch.tensor(1.0), "nan": tensor * float("nan"),
        "huge": torch.zeros(1, 1).expand(10**6, 10**6), "flat": tensor.flatten(),
        "a list": [tensor],
    }  # fmt: skip
    what = rng.choice(list(values))
    saved, old = io.BytesIO(), rng.random() < 0.3
    whole: Any = rng.choice([{**tensors, name: values[what]}, {name: values[what]}, values[what]])
    torch.save(whole, saved, _use_new_zipfile_serialization=not old)
    return f"{name} is {what}", saved.getvalue()
