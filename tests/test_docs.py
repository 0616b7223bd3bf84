"""README and docs tell the truth: their commands run as written, their files and figures exist."""

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from types import ModuleType

import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import BertConfig, BertModel
from minbert.cli import flag_of, parse_given, run_script
from minbert.run.resumed import FREE_ON_RESUME
from minbert.task.taskfile import COMMON, KINDS, read_tasks
from minbert.weights.resolve import resolve
from tasks import TASKS, sample
from tests.documents import (
    PAGES,
    ROOT,
    Block,
    blocks_of,
    heading_anchors,
    masked,
    python_words,
    script_words,
)

MODEL = "all-MiniLM-L6-v2"
ROWS = {"train": 32, "dev": 16, "test-student": 8}  # of the tests' sample
SCRIPTS = ("train_multitask.py", "pretrain_mlm.py", "evaluate.py")
LINKED = (
    *SCRIPTS, "minbert", "tasks", "experiments", "benchmarks", "compat", "recipes", "Makefile"
)  # fmt: skip
MODULES = (
    "tasks.download", "minbert.doctor", "minbert.export", "minbert.report.__main__",
    "experiments.paper", "experiments.figures", "experiments.long_texts", "experiments.one_model",
    "benchmarks.__main__", "benchmarks.quality",
)  # fmt: skip
OTHER_FLAGS = {
    "--help", "--config",  # of every script
    "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint",  # torchrun's
}  # fmt: skip
MOST_README_LINES, MOST_LINES_TO_READ = 120, 3000


def module_of(words: list[str]) -> tuple[ModuleType, list[str]]:
    """Return the module that `python WORDS` starts, and its arguments."""
    if words[0] != "-m":
        return importlib.import_module(words[0].removesuffix(".py")), words[1:]
    name = words[1]
    if (ROOT / name.replace(".", "/") / "__main__.py").is_file():
        name += ".__main__"
    return importlib.import_module(name), words[2:]


def run_python(words: list[str]) -> tuple[int, str]:
    """Run `python WORDS` in this process, which has PyTorch already: exit code and output."""
    module, argv = module_of(words)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(output):
        patch.setattr(sys, "argv", [words[0], *argv])
        with contextlib.redirect_stdout(output):
            try:
                run_script(module.main)
            except SystemExit as end:
                return int(end.code or 0), output.getvalue()
    raise AssertionError("run_script exits")


def run_command(command: str) -> tuple[int, str]:
    """Run a command as it stands in a page: exit code and output."""
    if words := python_words(command):
        return run_python(words)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def run_block(block: Block) -> str:
    """Run a block's commands or Python; return what they print."""
    if block.language == "python":
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(block.text, block.place, "exec"), {})
        return output.getvalue()
    printed = ""
    for command in block.commands():
        code, output = run_command(command)
        assert code == block.code, f"{block.place}: {command}: exit code {code}\n{output}"
        printed += output
    return printed


def check_output(block: Block, printed: str) -> None:
    """Every line of the output that a page shows was printed, whatever its numbers."""
    there = {masked(line) for line in printed.splitlines()}
    for line in block.output.splitlines():
        assert masked(line) in there, f"{block.place}: {line!r} was not printed:\n{printed}"


def check_parses(block: Block) -> None:
    """The commands of a block that is not run have flags that their scripts take."""
    for command in block.commands():
        if command.startswith("bash "):
            assert (ROOT / command.split()[1]).is_file(), f"{block.place}: {command}"
        words = script_words(command)
        if not words or words[:2] == ["-m", "compat"]:  # whose flags are a course's
            continue
        module, argv = module_of(words)
        given = parse_given(module.Args, argv, "")
        if module in (train_multitask, pretrain_mlm):
            module.resolve_arguments(given, TASKS)


def make_targets() -> dict[str, list[str]]:
    """Return the Makefile's targets, each with the arguments of its `python` commands."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if target := re.match(r"([\w.-]+):", line):
            found[target[1]] = commands = []
        elif line.startswith("\t$(BIN)/python "):
            commands.append(line.removeprefix("\t$(BIN)/python "))
    return found


def furnish(folder: Path, model: str = "") -> None:
    """Make a folder look like the repository's: its own data and checkpoints, the rest linked.

    model: a directory that stands where the model of that name is looked for first.
    """
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "checkpoints").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "ROWS", ROWS)
        sample.write_sample(folder / "data/sample")
    if model:
        (folder / MODEL).symlink_to(model)


def quickstart(folder: Path) -> str:
    """Train in a folder what `make quickstart` trains; return what it prints."""
    printed = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in make_targets()["quickstart"]:
            if command.startswith("train_multitask.py"):
                code, output = run_python(shlex.split(command))
                assert code == 0, output
                printed += output
    return printed


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's tokenizer with an encoder of one small layer: runs of megabytes, not gigabytes."""
    folder = tmp_path_factory.mktemp("small-model")
    for path in resolve(MODEL).iterdir():
        if path.name.startswith(("vocab", "token")):
            shutil.copy(path, folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def small_place(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository after `make quickstart` with the small model."""
    folder = tmp_path_factory.mktemp("docs")
    furnish(folder, str(small_model))
    quickstart(folder)
    return folder


@pytest.fixture
def real_place(tmp_path: Path) -> Iterator[Path]:
    """An empty place with the real MiniLM; what is left there, about 700 MB, is thrown away."""
    furnish(tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path / "checkpoints")


@pytest.mark.thorough
def test_the_readme_runs_with_the_real_model(
    real_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = quickstart(real_place)
    monkeypatch.chdir(real_place)
    for block in blocks_of("README.md"):
        if block.text == "make quickstart":
            check_output(block, printed)
        elif block.text == "make test":
            assert re.fullmatch(r"\d+ passed,.* in [\d.]+s.*", block.output)
        elif block.runs:
            check_output(block, run_block(block))


@pytest.mark.thorough
@pytest.mark.parametrize("page", PAGES[1:])
def test_the_commands_of_a_page_run(
    page: str, small_model: Path, small_place: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    furnish(tmp_path, str(small_model))
    for run in (small_place / "checkpoints").iterdir():
        shutil.copytree(run, tmp_path / "checkpoints" / run.name)
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if block.language == "toml":
            assert read_tasks(block.text, block.place, None)
        elif block.language in ("sh", "python") and block.runs:
            check_output(block, run_block(block))


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_has_flags_that_exist(page: str) -> None:
    for block in blocks_of(page):
        assert block.language in ("sh", "python", "toml"), f"{block.place}: no language"
        if block.language == "sh" and not block.runs:
            check_parses(block)
        for command in block.commands() if block.language == "sh" else ():
            if command.startswith("make "):
                assert command.split()[1] in make_targets(), block.place


def flags_of(f: Field[object]) -> tuple[str, str]:
    """Return what sets an argument, and what turns it off or takes it back from a --config."""
    return f"--{f.name}".replace("_", "-"), f"--no-{f.name}".replace("_", "-")


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "experiments/RESULTS.md"])
def test_flags_files_and_links_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    modules = [importlib.import_module(name.removesuffix(".py")) for name in (*SCRIPTS, *MODULES)]
    flags = {flag for m in modules for f in fields(m.Args) for flag in flags_of(f)}
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
        assert flag in flags | OTHER_FLAGS, f"{page}: {flag}"
    folders = "minbert|tasks|tests|docs|experiments|benchmarks|compat"
    for path in re.findall(rf"`((?:{folders})/[\w/.-]*)", text):
        assert (ROOT / path).exists(), f"{page}: {path}"
    for extra in re.findall(r"\.\[(\w+)\]", text):
        assert f'"{extra}": [' in (ROOT / "setup.py").read_text(encoding="utf-8"), extra
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for target in (a or b for a, b in links if not (a or b).startswith("http")):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in heading_anchors(file.read_text(encoding="utf-8")), f"{page}: {target}"


def test_every_kind_and_key_of_a_task_file_is_explained() -> None:
    page = (ROOT / "docs/own-tasks.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w[\w-]*)`", " ".join(re.findall(r"^\| (.+?) \|", page, re.M))))
    keys = {*COMMON, *(key for kind in KINDS.values() for key in kind.own)}
    assert explained >= {*KINDS, *keys}, {*KINDS, *keys} - explained


def test_the_readme_is_short_and_its_line_counts_are_right() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= MOST_README_LINES
    rows = re.findall(r"^\| \[([\w/.]+)\]\(([\w/.]+)\) \| (\d+) \|", readme, re.M)
    assert 8 <= len(rows) <= 12
    for name, path, said in rows:
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        assert name == path and abs(lines - int(said)) <= max(5, lines / 10), f"{path}: {lines}"
    assert sum(int(said) for *_, said in rows) <= MOST_LINES_TO_READ


def test_the_page_lists_what_a_resumed_run_may_change() -> None:
    page = " ".join((ROOT / "docs/usage.md").read_text(encoding="utf-8").split())
    listed = re.search(r"may be given anew:(.+?) and `--json`", page)[0]
    free = FREE_ON_RESUME - {"resume", "use_gpu"}
    assert {*re.findall(r"`(--[\w-]+)`", listed)} == {*map(flag_of, free)}
