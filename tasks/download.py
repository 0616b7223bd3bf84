"""Fetch the course's data files: python -m tasks.download --to data

They come from the course's public repository, or from MINBERT_DATA_URL. A file that exists is kept,
edited or not; a download that was cut off continues if the server still has the same file.
"""

import os
import shlex
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path

from tqdm import tqdm

from minbert.cli import arg, parse_arguments, run_script
from minbert.errors import UserError
from minbert.manifest import sha256_of
from minbert.parsers import comma_list
from tasks import TASKS

BASE = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data"
SHA256 = {
    "ids-sst-train.csv": "03b2b625c090f94a6afd59f114cde5282e2053aab0b101e87ed695d8a0c5b1df",
    "ids-sst-dev.csv": "a186ce94577635fbe10beaaddd50f16cccf6c30973221cefdf90deed2a584bfe",
    "quora-dev.csv": "bfa3cc954a9ba300ae776a980141de65f622a3c1b97e3fd905d63245bc36d5ad",
    "sts-train.csv": "15d12efc2d656fffb1d61ac1f08ec4227f43925fd16f420c037cbd063699c21b",
    "sts-dev.csv": "ce3cad6f16062586ac7ba462c28b010a9be10c530fd5074165860d7b7ab4e93d",
}
TRIES = 5  # in a row that bring no new byte
FIRST_WAIT_S = 1.0  # between two tries; doubled after each
TIMEOUT_S = 30.0  # for the next bytes of an answer
CHUNK = 1 << 16  # bytes


@dataclass(frozen=True)
class Args:
    """What to fetch and where to put it."""

    to: str = arg("data", "directory to put the files in")
    tasks: tuple[str, ...] = arg(tuple(TASKS), "whose files", parse=comma_list)


class Interrupted(Exception):
    """A failure of the network or the server, after which another try may help."""


def download(url: str, path: Path, sha256: str = "") -> bool:
    """Download a file, which is `<path>.part` until it is complete.

    Returns whether it is known to be complete, by its hash or by the length that the server named.
    Raises UserError if it is not found, cut off in every try, does not fit on the disk, or has
    another hash than expected twice.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        try:
            length_known = _fetch_with_retries(url, part, checked=bool(sha256))
        except OSError as error:
            raise UserError(f"{part}: {error.strerror}") from error
        _tag_file(part).unlink(missing_ok=True)
        found = sha256_of(part)
        if found == sha256 or not sha256:
            os.replace(part, path)
            return length_known or bool(sha256)
        part.unlink()  # a mix of two versions, or damaged on the way: start once more from byte 0
    raise UserError(f"{url}: sha256 {found[:12]}..., expected {sha256[:12]}...: another file")


def _fetch_with_retries(url: str, part: Path, checked: bool) -> bool:
    """Fetch a file into `part`; return as `_store`. Raises UserError after TRIES without a byte."""
    tries, largest = 0, 0
    while True:
        try:
            return _fetch(url, part, checked)
        except Interrupted as error:
            size = _size(part)
            tries = 1 if size > largest else tries + 1
            largest = max(size, largest)
            if tries == TRIES:
                raise UserError(
                    f"{url}: {error} ({TRIES} tries); run it again, {part} goes on"
                ) from error
            time.sleep(FIRST_WAIT_S * 2 ** (tries - 1))


def _size(part: Path) -> int:
    """Return how many bytes a part has, 0 if it does not exist."""
    return part.stat().st_size if part.is_file() else 0


def _tag_file(part: Path) -> Path:
    """Return the file with the server's tag of the version that the part is of, for `If-Range`."""
    return part.with_name(part.name + ".tag")


def _fetch(url: str, part: Path, checked: bool) -> bool:
    """Try once, from where the last try ended if it is still the same file; return as `_store`.

    Raises Interrupted if another try may help, else UserError.
    """
    have, tag = _size(part), ""
    if _tag_file(part).is_file():
        text = _tag_file(part).read_text(encoding="latin-1")
        tag = text if text.isascii() and text.isprintable() else ""  # a damaged one is none
    headers = {}
    if have and (tag or checked):
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # range not satisfiable: the server's file is not longer
            part.unlink()
            raise Interrupted("its size has changed") from error
        if 400 <= error.code < 500 and error.code not in (408, 429):
            raise UserError(
                f"{url}: {error.code} {error.reason}; is MINBERT_DATA_URL right?"
            ) from error
        raise Interrupted(str(error)) from error
    except (ValueError, InvalidURL) as error:
        raise UserError(f"{url}: not an address ({error})") from error
    except (OSError, HTTPException) as error:
        raise Interrupted(str(error)) from error
    with answer:
        if answer.status != 206:
            return _store(answer, part, 0)
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise Interrupted("another range than the one asked for")
        return _store(answer, part, have)


def _store(answer: HTTPResponse, part: Path, have: int) -> bool:
    """Write an answer's body after the first `have` bytes of the part.

    Returns whether its length was known. Raises Interrupted if bytes are missing.
    """
    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None  # else the server names none
    if not have:
        part.write_bytes(b"")  # before the tag is that of the bytes to come
        etag = answer.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag  # a weak tag may be that of other bytes
        _tag_file(part).write_text(
            strong or answer.headers.get("Last-Modified", ""), encoding="utf-8"
        )
    name = part.name.removesuffix(".part")
    with (
        part.open("ab" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=None) as bar,
    ):
        while chunk := _read(answer):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise Interrupted(f"cut off after {_size(part)} of {total} bytes")
    return total is not None or answer.chunked  # chunked answers mark their end


def _read(answer: HTTPResponse) -> bytes:
    """Read the next bytes. Raises Interrupted for errors of reading; those of writing are final."""
    try:
        return answer.read1(CHUNK)
    except (OSError, HTTPException) as error:
        raise Interrupted(str(error)) from error


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__)
    if unknown := [name for name in args.tasks if name not in TASKS]:
        raise UserError(f"--tasks {unknown[0]}: write some of {','.join(TASKS)}")
    base = os.environ.get("MINBERT_DATA_URL", BASE).rstrip("/")
    every = [TASKS[task].files.values() for task in args.tasks]
    for name in (name for files in every for names in files for name in names):
        path, expected = Path(args.to) / name, SHA256.get(name, "")
        if path.is_file():
            same = not expected or sha256_of(path) == expected
            other = "kept, but it is not the course's; move it away to fetch that"
            print(f"{path}: {'there already' if same else other}")
            continue
        complete = download(f"{base}/{name}", path, expected)
        state = "unchecked" if complete else "unchecked; no length was named"
        print(f"{path}: {path.stat().st_size:,} bytes, {'checked' if expected else state}")
    chosen = "" if args.tasks == Args.tasks else f" --tasks {','.join(args.tasks)}"
    place = shlex.quote(args.to)
    print(f"next: python train_multitask.py --mode parallel{chosen} --data-dir {place}")
    return 0


if __name__ == "__main__":
    run_script(main)
