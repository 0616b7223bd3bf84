"""Fetch the course's data files: python -m tasks.download --to data

From its public repository, or from MINBERT_DATA_URL. What is there stays; a part goes on.
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

from minbert.errors import UserError
from minbert.training.arguments import arg, comma_list, parse_arguments, run_script
from tasks import TASKS

BASE = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data"
SHA256 = {
    "ids-sst-train.csv": "03b2b625c090f94a6afd59f114cde5282e2053aab0b101e87ed695d8a0c5b1df",
    "ids-sst-dev.csv": "a186ce94577635fbe10beaaddd50f16cccf6c30973221cefdf90deed2a584bfe",
    "quora-dev.csv": "bfa3cc954a9ba300ae776a980141de65f622a3c1b97e3fd905d63245bc36d5ad",
    "sts-train.csv": "15d12efc2d656fffb1d61ac1f08ec4227f43925fd16f420c037cbd063699c21b",
    "sts-dev.csv": "ce3cad6f16062586ac7ba462c28b010a9be10c530fd5074165860d7b7ab4e93d",
}
TRIES = 5
FIRST_WAIT_S = 1.0  # doubled after every try
TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 16


@dataclass(frozen=True)
class Args:
    """What to fetch and where to."""

    to: str = arg("data", "directory to put the files in")
    tasks: tuple[str, ...] = arg(tuple(TASKS), "whose files", parse=comma_list)


class Refused(UserError):
    """The server's answer will be the same next time."""


def download(url: str, path: Path, sha256: str = "") -> None:
    """url -> path, which is whole or not there; meanwhile it is `<path>.part`.

    Raises UserError: not found, cut off in every try, or another file than the one expected.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, TRIES + 1):
        try:
            _fetch(url, part)
            break
        except Refused:
            raise
        except (OSError, HTTPException) as error:
            if number == TRIES:
                raise UserError(
                    f"{url}: {error} ({TRIES} tries); run it again, {part} goes on"
                ) from error
            time.sleep(FIRST_WAIT_S * 2 ** (number - 1))
    if sha256 and (found := digest(part)) != sha256:
        part.unlink()
        raise UserError(f"{url}: sha256 {found[:12]}..., expected {sha256[:12]}...: another file")
    os.replace(part, path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(url: str, part: Path) -> None:
    """One try, from where the last one ended. OSError: it may be worth another."""
    have = part.stat().st_size if part.is_file() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is not a beginning of what is there now
            part.unlink()
            raise OSError("its size has changed") from error
        if 400 <= error.code < 500 and error.code not in (408, 429):
            raise Refused(
                f"{url}: {error.code} {error.reason}; is MINBERT_DATA_URL right?"
            ) from error
        raise
    except ValueError as error:
        raise Refused(f"{url}: not an address ({error})") from error
    with answer:
        _store(answer, part, have if answer.status == 206 else 0)


def _store(answer: HTTPResponse, part: Path, have: int) -> None:
    """The body at the end of the part, or instead of it where the server starts anew."""
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    name = part.name.removesuffix(".part")
    with (
        part.open("ab" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=None) as bar,
    ):
        while chunk := answer.read1(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"cut off after {part.stat().st_size} of {total} bytes")


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    if unknown := [name for name in args.tasks if name not in TASKS]:
        raise UserError(f"--tasks {unknown[0]}: write some of {','.join(TASKS)}")
    base = os.environ.get("MINBERT_DATA_URL", BASE).rstrip("/")
    for name in (file for task in args.tasks for file in TASKS[task].files.values()):
        path, expected = Path(args.to) / name, SHA256.get(name, "")
        if path.is_file() and (not expected or digest(path) == expected):
            print(f"{path}: there already")
            continue
        download(f"{base}/{name}", path, expected)
        print(f"{path}: {path.stat().st_size:,} bytes, {'checked' if expected else 'unchecked'}")
    print(f"next: python train_multitask.py --mode parallel --data-dir {args.to}")
    return 0


if __name__ == "__main__":
    run_script(main)
