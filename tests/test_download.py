"""Downloads from a real server on the loopback address that misbehaves on purpose."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from minbert import UserError
from minbert.manifest import sha256_of
from tasks import TASKS, download

BODY = bytes(range(256)) * 1000
HASH = hashlib.sha256(BODY).hexdigest()


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
TAGS = {  # of the version, by kind
    "tagged": ("ETag", '"v2"'), "weak": ("ETag", 'W/"v2"'), "dated": ("Last-Modified", DATE),
}  # fmt: skip
ERRORS = {"busy": 500, "late": 408, "limited": 429}  # at first


class Handler(BaseHTTPRequestHandler):
    """`/kind/file`: behaves as the kind says; remembers the Range headers it was asked with."""

    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        first = len(self.asked) == 1
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if self.headers.get("If-Range", DATE) not in ('"v2"', DATE):
            start = 0  # it has changed since
        if kind == "missing":
            self.send_error(404)
        elif kind in ERRORS and first:
            self.send_error(ERRORS[kind])
        elif kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good/f")
            self.end_headers()
        elif kind == "shrunk" and start:
            self.send_error(416)
        else:
            body = b"x" * 100 if kind == "other" else BODY
            if kind == "stubborn":
                start = 0
            self.send_response(206 if start else 200)
            if start:
                at = start + 7 * (kind == "elsewhere")
                self.send_header("Content-Range", f"bytes {at}-{len(body) - 1}/{len(body)}")
            if kind == "strange":
                self.send_header("Content-Length", "abc")
            elif kind == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            elif kind != "endless":
                self.send_header("Content-Length", str(len(body) - start + 10 * (kind == "long")))
            if kind in TAGS:
                self.send_header(*TAGS[kind])
            self.end_headers()
            if kind == "stuck" and start:
                return
            cut = kind in ("drops", "stuck") or (kind in ("cut", "stubborn", *TAGS) and first)
            step = 50_000 if kind == "drops" else 5000
            if kind == "slow" and first:
                self.wfile.write(body[:1000])
                self.wfile.flush()
                self.server.stop.wait(5)  # type: ignore[attr-defined]
                return
            self.wfile.write(body[start : start + step] if cut else body[start:])

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_S", 0.3)
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "kind", ["good", "cut", *ERRORS, "moved", "stubborn", "slow", "drops", "chunked"]
)
def test_it_arrives_whole(server: str, tmp_path: Path, kind: str) -> None:
    download.download(f"{server}/{kind}/f", tmp_path / "d" / "f", HASH)
    assert (tmp_path / "d" / "f").read_bytes() == BODY
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["f"]
    expected = {"cut": [None, "bytes=5000-"], "slow": [None, "bytes=1000-"]}
    if kind in expected:
        assert Handler.asked == expected[kind]


def test_a_bar_counts_its_bytes(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(download.tqdm, "update", lambda _, count: counted.append(count))
    download.download(f"{server}/good/f", tmp_path / "f", HASH)
    assert sum(counted) == len(BODY)


def test_a_part_of_an_earlier_run_goes_on(server: str, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY[:70_000])
    download.download(f"{server}/good/f", tmp_path / "f", HASH)
    assert (tmp_path / "f").read_bytes() == BODY and Handler.asked == ["bytes=70000-"]


@pytest.mark.parametrize("kind", ["good", "elsewhere"])
def test_a_part_of_something_else_is_fetched_anew(server: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 70_000)
    download.download(f"{server}/{kind}/f", tmp_path / "f", HASH)
    assert (tmp_path / "f").read_bytes() == BODY and Handler.asked == ["bytes=70000-", None]


@pytest.mark.parametrize(
    ("tag", "asked"),
    [
        ('"v2"', "bytes=70000-"),
        ('"v1"', "bytes=70000-"),
        (None, None),
        ("\xff", None),
        ("\n", None),
    ],
)
def test_without_a_hash_a_part_goes_on_only_in_the_same_version(
    server: str, tmp_path: Path, tag: str | None, asked: str | None
) -> None:
    (tmp_path / "f.part").write_bytes((BODY if tag == '"v2"' else b"x" * 90_000)[:70_000])
    if tag:
        (tmp_path / "f.part.tag").write_text(tag, encoding="latin-1")
    assert download.download(f"{server}/good/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and Handler.asked == [asked]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("kind", "asked"), [("tagged", "bytes=5000-"), ("dated", "bytes=5000-"), ("weak", None)]
)
def test_the_version_is_kept_between_two_tries(
    server: str, tmp_path: Path, kind: str, asked: str | None
) -> None:
    """A weak tag may be that of other bytes: then the file is fetched from its begin."""
    assert download.download(f"{server}/{kind}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and Handler.asked == [None, asked]


def test_a_length_that_nobody_knows_is_said(server: str, tmp_path: Path) -> None:
    assert not download.download(f"{server}/endless/f", tmp_path / "f")
    assert not download.download(f"{server}/strange/f", tmp_path / "s")
    assert download.download(f"{server}/chunked/f", tmp_path / "c")  # which marks its end
    assert download.download(f"{server}/endless/f", tmp_path / "g", HASH)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_not_tried_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "f.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"f\.part: No space left on device"):
        download.download(f"{server}/good/f", tmp_path / "f", HASH)
    assert len(Handler.asked) == 1


def test_a_part_that_no_longer_fits_is_thrown_away(server: str, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY + b"more")
    download.download(f"{server}/shrunk/f", tmp_path / "f", HASH)
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize(
    ("kind", "message", "requests"),
    [
        ("missing", r"missing/f: 404 .*MINBERT_DATA_URL", 1),
        ("other", r"other/f: sha256 .*another file", 2),
        ("stuck", r"cut off after 5000 of \d+ bytes \(5 tries\); run it again", 5),
    ],
)
def test_what_cannot_arrive_is_one_line(
    server: str, tmp_path: Path, kind: str, message: str, requests: int
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match=message) as error:
        download.download(f"{server}/{kind}/f", path, HASH)
    assert "\n" not in str(error.value) and len(Handler.asked) == requests
    assert path.read_bytes() == b"old"  # what was there stays until the new one is whole
    assert (tmp_path / "f.part").exists() == (kind == "stuck")


def test_a_length_that_is_never_reached(server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run it again"):
        download.download(f"{server}/long/f", tmp_path / "f", HASH)
    assert not (tmp_path / "f").exists()


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)
    with pytest.raises(UserError, match=r"127.0.0.1:9/f: .*\(5 tries\)"):
        download.download("http://127.0.0.1:9/f", tmp_path / "f")
    with pytest.raises(UserError, match="not an address"):
        download.download("data.example", tmp_path / "f")
    with pytest.raises(UserError, match="not an address"):
        download.download("http://127.0.0.1:9/a folder/f", tmp_path / "f")


def test_all_files_of_the_tasks(server: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MINBERT_DATA_URL", f"{server}/good/")
    monkeypatch.setattr(download, "SHA256", {"ids-sst-dev.csv": HASH})
    arguments = ["--to", str(tmp_path / "data"), "--tasks", "sst,sts"]
    download.main(arguments)
    names = {file for task in ("sst", "sts") for (file,) in TASKS[task].files.values()}
    assert {p.name for p in (tmp_path / "data").iterdir()} == names
    out = capsys.readouterr().out
    assert out.endswith(f"--mode parallel --tasks sst,sts --data-dir {tmp_path / 'data'}\n")
    assert out.count("unchecked") == 5 and out.count(", checked") == 1
    (tmp_path / "data" / "ids-sst-dev.csv").write_bytes(b"edited")
    (tmp_path / "data" / "sts-dev.csv").unlink()
    Handler.asked.clear()
    download.main(arguments)
    assert len(Handler.asked) == 1
    out = capsys.readouterr().out
    assert out.count("there already") == 4 and "ids-sst-dev.csv: kept, but it is not" in out
    assert (tmp_path / "data" / "ids-sst-dev.csv").read_bytes() == b"edited"


def test_the_hashes_are_those_of_the_real_files(real_data: Path) -> None:
    for name, expected in download.SHA256.items():
        assert sha256_of(real_data / name) == expected, name
