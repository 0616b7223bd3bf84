"""Fetch the course's data files: python -m tasks.download --to data

From its public repository, or from MINBERT_DATA_URL. What is there stays, edited or not; a part
goes on if it is a part of the same file.
"""

import hashlib
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from minbert.cli import arg, comma_list, parse_arguments, run_script
from minbert.errors import UserError
from tasks import TASKS

BASE = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data"
SHA256 = {
    "ids-sst-train.csv": "03b2b625c090f94a6afd59f114cde5282e2053aab0b101e87ed695d8a0c5b1df",
    "ids-sst-dev.csv": "a186ce94577635fbe10beaaddd50f16cccf6c30973221cefdf90deed2a584bfe",
    "quora-dev.csv": "bfa3cc954a9ba300ae776a980141de65f622a3c1b97e3fd905d63245bc36d5ad",
    "sts-train.csv": "15d12efc2d656fffb1d61ac1f08ec4227f43925fd16f420c037cbd063699c21b",
    "sts-dev.csv": "ce3cad6f16062586ac7ba462c28b010a9be10c530fd5074165860d7b7ab4e93d",
}
TRIES = 5  # without a new byte
FIRST_WAIT_S = 1.0  # doubled after every try
TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 16


@dataclass(frozen=True)
class Args:
    """What to fetch and where to."""

    to: str = arg("data", "directory to put the files in")
    tasks: tuple[str, ...] = arg(tuple(TASKS), "whose files", parse=comma_list)


class Interrupted(Exception):
    """Another try may help: the network or the server is to blame."""


def download(url: str, path: Path, sha256: str = "") -> bool:
    """url -> path, which is whole or not there; meanwhile it is `<path>.part`.

    False: nothing says that it is whole, neither a hash nor the server. Raises UserError: not
    found, cut off in every try, no place on the disk, or twice another file than the one expected.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        try:
            length_known = _fetch_on(url, part, checked=bool(sha256))
        except OSError as error:
            raise UserError(f"{part}: {error.strerror}") from error
        _tag_file(part).unlink(missing_ok=True)
        found = digest(part)
        if found == sha256 or not sha256:
            os.replace(part, path)
            return length_known or bool(sha256)
        part.unlink()  # of two versions, or damaged on the way: once more from its beginning
    raise UserError(f"{url}: sha256 {found[:12]}..., expected {sha256[:12]}...: another file")


def _fetch_on(url: str, part: Path, checked: bool) -> bool:
    """Try until it is there. Raises UserError after TRIES that brought nothing new."""
    tries, most = 0, 0
    while True:
        try:
            return _fetch(url, part, checked)
        except Interrupted as error:
            size = _size(part)
            tries = 1 if size > most else tries + 1
            most = max(size, most)
            if tries == TRIES:
                raise UserError(
                    f"{url}: {error} ({TRIES} tries); run it again, {part} goes on"
                ) from error
            time.sleep(FIRST_WAIT_S * 2 ** (tries - 1))


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _tag_file(part: Path) -> Path:
    """What the server called the version that the part is of: for `If-Range`."""
    return part.with_name(part.name + ".tag")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(url: str, part: Path, checked: bool) -> bool:
    """One try, from where the last one ended if it is still the same file; as `_store`."""
    have, tag = _size(part), ""
    if _tag_file(part).is_file():
        tag = _tag_file(part).read_text(encoding="utf-8")
    headers = {}
    if have and (tag or checked):
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is not a beginning of what is there now
            part.unlink()
            raise Interrupted("its size has changed") from error
        if 400 <= error.code < 500 and error.code not in (408, 429):
            raise UserError(
                f"{url}: {error.code} {error.reason}; is MINBERT_DATA_URL right?"
            ) from error
        raise Interrupted(str(error)) from error
    except (OSError, HTTPException) as error:
        raise Interrupted(str(error)) from error
    except ValueError as error:
        raise UserError(f"{url}: not an address ({error})") from error
    with answer:
        if answer.status != 206:
            return _store(answer, part, 0)
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise Interrupted("another range than the one asked for")
        return _store(answer, part, have)


def _store(answer: HTTPResponse, part: Path, have: int) -> bool:
    """The body at the end of the part, or instead of it; whether its length was known."""
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    if not have:
        etag = answer.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag  # a weak one is no tag of the bytes
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
    return total is not None or answer.chunked  # chunks have an end of their own


def _read(answer: HTTPResponse) -> bytes:
    """Apart from the writing: a full disk is nothing to try again."""
    try:
        return answer.read1(CHUNK)
    except (OSError, HTTPException) as error:
        raise Interrupted(str(error)) from error


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    if unknown := [name for name in args.tasks if name not in TASKS]:
        raise UserError(f"--tasks {unknown[0]}: write some of {','.join(TASKS)}")
    base = os.environ.get("MINBERT_DATA_URL", BASE).rstrip("/")
    for name in (file for task in args.tasks for file in TASKS[task].files.values()):
        path, expected = Path(args.to) / name, SHA256.get(name, "")
        if path.is_file():
            same = not expected or digest(path) == expected
            other = "kept, but it is not the course's; move it away to fetch that"
            print(f"{path}: {'there already' if same else other}")
            continue
        whole = download(f"{base}/{name}", path, expected)
        said = "checked" if expected else "unchecked" if whole else "unchecked; no length was named"
        print(f"{path}: {path.stat().st_size:,} bytes, {said}")
    print(f"next: python train_multitask.py --mode parallel --data-dir {args.to}")
    return 0


if __name__ == "__main__":
    run_script(main)
