"""Arguments: --help in groups, limits, the names of runs, devices."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.cli import parse_given
from minbert.doctor import main as doctor
from minbert.parsers import word_by_task
from minbert.run import mlm_args as mlm_options
from minbert.run.resolve_args import resolve_arguments
from minbert.run.train_args import Args, default_name
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.weights import resolve as resolve_module
from tasks import TASKS

FULL = "No space left on device"
ALWAYS_FULL = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="no device that is always full"
)


def test_a_text_that_looks_like_a_flag_stays_as_it_is() -> None:
    words = ["--text", "--dry_run does not = work_s", "--data_dir", "a_b"]
    found = parse_given(evaluate.Args, words, "")
    assert found == {"text": "--dry_run does not = work_s", "data_dir": "a_b"}


@pytest.mark.parametrize(
    ("fp32", "bf16", "auto", "best"),
    [(1.0, 2.0, torch.float32, "bf16"), (2.0, 1.0, torch.bfloat16, "fp32")],
)
def test_doctor_advises_what_is_faster_here(
    tmp_path: Path, capsys, monkeypatch, fp32: float, bf16: float, auto: torch.dtype, best: str
) -> None:
    rates = {torch.float32: fp32, torch.bfloat16: bf16}
    monkeypatch.setattr("minbert.doctor.rate", lambda dtype, _: rates[dtype])
    monkeypatch.setattr("minbert.doctor.choose_precision", lambda *_: auto)
    assert doctor(["--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"; here --precision {best} is faster\n")


@pytest.mark.parametrize(
    ("place", "ends", "said", "code"),
    [
        ("| true", "return 0", "", 141),
        ("| true", "raise UserError('no')", "error: no\n", 2),
        ("2>&1 | true", "raise UserError('no')", "", 2),
        ("2>&1 | true", "raise KeyboardInterrupt", "", 130),
        ("2>&- | grep -c error >&2", "raise UserError('no')", "0\n", 2),
        pytest.param("2> /dev/full", "raise UserError('no')", "", 2, marks=ALWAYS_FULL),
        pytest.param(
            "> /dev/full", "return 0", f"error: standard output: {FULL}\n", 2, marks=ALWAYS_FULL
        ),
        pytest.param(
            "> /dev/full", "return 1", f"error: standard output: {FULL}\n", 1, marks=ALWAYS_FULL
        ),
        pytest.param(
            "> /dev/full", "exit()", f"error: standard output: {FULL}\n", 2, marks=ALWAYS_FULL
        ),
        pytest.param(
            "> /dev/full", "sys.stdout.flush()", f"error: [Errno 28] {FULL}\n", 2, marks=ALWAYS_FULL
        ),
    ],
)
def test_output_that_cannot_be_written_is_a_code_and_at_most_a_line(
    place: str, ends: str, said: str, code: int
) -> None:
    """Of less than a buffer holds, which is written at the end."""
    lines = (
        "def main(argv):",
        "    print('answer')",
        f"    time.sleep(0.2); {ends}",
        "run_script(main)",
    )
    package = str(Path(evaluate.__file__).with_name("minbert"))
    imports = (  # without the package's __init__.py, which takes seconds to import PyTorch
        "import sys, time, types\npackage = sys.modules['minbert'] = types.ModuleType('minbert')\n"
        f"package.__path__ = [{package!r}]\n"
        "from minbert.cli import run_script\nfrom minbert.errors import UserError"
    )
    command = f'{shlex.quote(sys.executable)} -c "$SCRIPT" {place}; exit ${{PIPESTATUS[0]}}'
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True,
        env=environment | {"SCRIPT": "\n".join((imports, *lines))},
    )  # fmt: skip
    assert (done.stderr, done.returncode) == (said, code)


@pytest.mark.parametrize(
    ("script", "titles"),
    [
        (
            train_multitask,
            "tasks training data saving machine printing beyond-the-paper siamese-pairs",
        ),
        (pretrain_mlm, "tasks training data saving machine printing"),
        (evaluate, "what-to-do text-of-yours data model machine printing"),
    ],
)
def test_help_has_every_flag_in_one_group(
    script: ModuleType, titles: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ungrouped = [f.name for f in fields(script.Args) if not f.metadata["group"]]
    assert not ungrouped, f"{ungrouped[0]}: a field is made by the *_arg of a group, not by arg"
    with pytest.raises(SystemExit):
        parse_given(script.Args, ["--help"], "")
    out = capsys.readouterr().out
    assert re.match(r"usage: .+ \[ARGUMENTS\]\n\n", out)
    found = re.findall(r"^(\S.*):$", out, re.M)
    assert found == ["options", *(title.replace("-", " ") for title in titles.split())]
    flags = re.findall(r"^  --(?:no-)?([\w-]+)", out, re.M)
    expected = ["config", *(f.name.replace("_", "-") for f in fields(script.Args))]
    assert sorted(flags) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("160", {"sst": 160, "sts": 160}),
        ("sst=8", {"sst": 8}),
        ("sts=8,160", {"sst": 160, "sts": 8}),
    ],
)
def test_a_limit_is_of_all_tasks_or_of_some(text: str, limits: dict[str, int]) -> None:
    words = ["--tasks", "sst,sts", "--limit", text, "--limit-dev", text]
    args = resolve_arguments(parse_given(Args, words, ""), TASKS)
    assert args.limit == args.limit_dev == limits
    mlm = parse_given(mlm_options.Args, words[:4], "")
    assert mlm_options.resolve_arguments(mlm, TASKS).limit == limits


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--limit quora=8", r"--limit quora: not one of --tasks sst,sts"),
        ("--limit-dev quora=8", r"--limit-dev quora: not one of --tasks sst,sts"),
        ("--limit 0", r"--limit: '0': write a whole number from 1, or by task, as sst"),
        ("--limit few", r"--limit: 'few': write a whole number from 1, or by task"),
        ("--sub-epochs sst=0", r"--sub-epochs: 'sst=0': write whole numbers from 1 by task"),
        ("--sub-epochs 3", r"--sub-epochs: '3': write whole numbers from 1 by task, as sst"),
    ],
)
def test_limits_that_fit_no_task(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_arguments(parse_given(Args, ["--tasks", "sst,sts", *words.split()], ""), TASKS)


def test_a_corpus_has_no_limit_by_task(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("red\n")
    given = {"corpus": (str(tmp_path / "a.txt"),), "limit": {"": 8}}
    with pytest.raises(UserError, match="--limit is of the tasks' rows: not with --corpus"):
        mlm_options.resolve_arguments(given, TASKS)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "parallel-sst-quora-sts"),
        ("--lr 3e-5 --limit 160 --threads 1", "parallel-sst-quora-sts"),
        ("--fine-tune-mode last-linear-layer --tasks sst", "parallel-sst-frozen"),
        ("--option pretrain --tasks sst", "parallel-sst-frozen"),
        ("--pair-encoding siamese --tasks sts", "parallel-sts-siamese"),
        ("--pair-encoding sts=both --tasks sst,sts", "parallel-sst-sts-both"),
        ("--mode annealed --teacher runs/a", "annealed-sst-quora-sts-taught"),
        ("--mode joint --combine pcgrad --average 0.1", "joint-sst-quora-sts-pcgrad-averaged"),
    ],
)
def test_a_run_s_own_name_says_what_is_unusual(words: str, name: str) -> None:
    assert default_name(resolve_arguments(parse_given(Args, words.split(), ""), TASKS)) == name


def test_many_names_make_a_name_that_a_folder_can_have(tmp_path: Path) -> None:
    shards = [str(tmp_path / f"shard-{i:05}.txt") for i in range(40)]
    long = str(tmp_path / ("a" * 250 + ".txt"))
    for files, name in ((shards, "shard-00000-and-39-more"), ([long], "a" * 40)):
        for file in files:
            Path(file).touch()
        args = pretrain_mlm.resolve_arguments({"corpus": tuple(files)}, TASKS)
        assert mlm_options.default_name(args) == f"mlm-{name}"


def test_resolved_arguments_stay_what_they_are() -> None:
    """--resume resolves a run's own again; "cross" goes before what the task file says."""
    own = {**TASKS, "quora": replace(TASKS["quora"], pair_encoding="siamese")}
    for words in ("", "--pair-encoding cross", "--pair-encoding siamese", "--option pretrain"):
        given = parse_given(Args, ["--tasks", "sst,quora,sts", *words.split()], "")
        if "pretrain" in words:
            given["tasks"] = ("sst",)
        once = resolve_arguments(given, own)
        assert resolve_arguments(vars(once), own) == once
        assert ("quora" in once.pair_loss) == (words in ("", "--pair-encoding siamese"))


@pytest.mark.parametrize(
    ("capability", "dtype"), [((8, 0), torch.bfloat16), ((7, 5), torch.float32)]
)
def test_emulated_bf16_is_not_fast(monkeypatch, capability: tuple[int, int], dtype) -> None:
    """PyTorch says that a T4, 7.5, can do bf16; what it does is slower than fp32."""
    of = {torch.device("cuda:1"): capability}  # of the GPU that was asked for, not of the first
    monkeypatch.setattr(torch.cuda, "get_device_capability", of.__getitem__)
    assert choose_precision("auto", torch.device("cuda:1")) == dtype


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UserError, match="--device mps: this machine has no MPS device"):
        choose_device("mps")


def test_doctor_says_what_is_here(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("minbert.doctor.SIZE", 256)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    (tmp_path / "ids-sst-dev.csv").write_text("")
    known = resolve_module.find_locally

    def found(name: str) -> Path | None:
        if "/" in name:  # as where a download of its list of weights was cut short
            raise UserError("x.index.json: not a list of weights by file; fetch it again")
        return known(name)

    monkeypatch.setattr("minbert.doctor.find_locally", found)
    monkeypatch.setattr(resolve_module, "_find_cached", lambda _: None)  # whatever is in the user's
    monkeypatch.setitem(resolve_module.ALIASES, "me/torn", "me/torn")
    assert doctor(["--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "torch 2.13.0" in out and "ids-sst-dev.csv" in out
    assert "HF_HUB_OFFLINE=1" in out and "secret" not in out
    assert re.search(r"\d+ cores, \d+ threads used, .*, \S+ GiB of memory", out)
    assert "onnxruntime 1." in out and "tensorboard 2." in out
    missing = next(line for line in out.splitlines() if line.startswith("missing"))
    assert "ids-sst-train.csv" in missing and "ids-sst-dev.csv" not in missing
    assert missing.endswith(f"`python -m tasks.download --to {tmp_path} --tasks {','.join(TASKS)}`")
    weights = next(line for line in out.splitlines() if "all-MiniLM-L6-v2:" in line)
    assert weights.endswith("model")  # the installed package's
    assert "me/torn: x.index.json: not a list of weights by file" in out
    assert "--precision" in out.splitlines()[-1]


def test_a_value_by_task_may_have_an_equals_sign() -> None:
    assert word_by_task("sst=runs/lr=1e-4") == {"sst": "runs/lr=1e-4"}
    assert word_by_task("runs/lr=1e-4") == {"": "runs/lr=1e-4"}
    for text, message in (
        ("sst=a,sst=b", "says sst twice"), ("a,b", "says what is for all twice"),
        ("=a", "is not of the form"), ("sst=", "is not of the form"), (",", "has nothing between"),
    ):  # fmt: skip
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            word_by_task(text)


@pytest.mark.parametrize("name", ["xpu", "meta", "cuda:x", "vulkan"])
def test_a_device_that_is_none_of_ours(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: write auto, cpu, cuda, mps"):
        choose_device(name)


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(UserError, match="--device cuda:1: each process has a GPU of its own"):
        choose_device("cuda:1")


def test_a_precision_that_is_none() -> None:
    with pytest.raises(UserError, match="precision 'fp16': write one of auto, fp32, bf16"):
        choose_precision("fp16", torch.device("cpu"))


def test_epochs_by_task_may_be_of_one_task() -> None:
    given = parse_given(Args, ["--mode", "single", "--tasks", "sst", "--epochs", "sst=3"], "")
    assert resolve_arguments(given, TASKS).epochs == 3
