"""While it runs: bars that garble nothing, a line a minute elsewhere, time left."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.cli import run_script
from minbert.progress import duration, progress, say
from minbert.run.steps import Progress, StepRecord, leading
from tests.conftest import arguments, run
from tests.terminal import terminal

BAR = re.compile(r"\d+%\|")
RATES = r"lr \d\.\de-\d\d, \d+ examples/s, \d+ tokens/s"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every bar be shown at once, and drawn at every step."""
    monkeypatch.setattr("minbert.progress.BAR_AFTER_S", 0)
    monkeypatch.setattr("minbert.run.steps.DRAW_EVERY_S", 0)


def test_a_bar_comes_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, is_shown in ((1.9, False), (2.1, True)):
        start = [0.0]
        clock = lambda start=start, then=seconds: start.pop() if start else then  # noqa: E731
        monkeypatch.setattr("minbert.progress.time.monotonic", clock)
        with terminal(60) as screen:
            for _ in progress([1, 2], "texts"):
                pass
        assert any(BAR.search(row) for row in screen.drawn) == is_shown


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+(\.\d+)?", "#", line.strip()) for line in lines if line.strip()]


@pytest.mark.parametrize(
    ("width", "flags"),
    [
        (60, "--mode sequential --sub-epochs sst=1,sts=2"),
        (80, "--pair-encoding siamese --average 0.5"),
        (120, "--fine-tune-mode last-linear-layer"),
        (250, "--epochs 2"),
    ],
)
def test_what_is_printed_stands_in_no_bar(
    world: Path, impatient: None, width: int, flags: str
) -> None:
    """At the end the screen has the lines that a file would have, and nothing of the bars."""
    words = ["--epochs", "1", *flags.split()]
    with redirect_stdout(io.StringIO()) as plain:
        run(world, "--name", "a1", *words)
    with terminal(width) as screen:
        run(world, "--name", "a2", *words)
    bars = [line for line in screen.drawn if BAR.search(line)]
    assert any(re.search(r"\d of \d+, \S+ \S+ left", line) for line in bars)  # the steps
    assert not any(re.search(r"s[st][st] \d+\.\d{0,2}$", line) for line in bars)  # cut numbers
    assert any("STS: dev" in line or "features" in line for line in bars)
    epochs = re.findall(rf"epoch (\d), {RATES}", "\n".join(bars))
    assert width < 250 or {*epochs} == {"1", "2"}
    assert max(map(len, bars)) <= width
    assert not [row for row in screen.wrapped if BAR.search(screen.rows[row])]
    expected = without_numbers(plain.getvalue().splitlines())
    assert not any("; loss:" in line for line in expected)  # no minute has passed
    assert without_numbers(screen.lines()) == expected


def test_pre_training_has_a_bar_too(world: Path, impatient: None) -> None:
    with terminal(120) as screen:
        pretrain_mlm.main([*mlm_arguments(world), "--name", "text"])
    assert any(line.startswith("held-out texts") for line in screen.drawn)
    assert re.search(rf" left, loss mlm .*, epoch 1, {RATES}", "\n".join(screen.drawn))
    assert not [line for line in screen.lines() if BAR.search(line)]


def mlm_arguments(world: Path) -> list[str]:
    places = ["--model", str(world / "model"), "--data-dir", str(world / "data")]
    return [*places, "--output-dir", str(world / "runs"), "--epochs", "1", "--held-out", "4"]


@pytest.mark.parametrize(
    ("error", "last"),
    [(UserError("a bad row"), "error: a bad row"), (KeyboardInterrupt(), "stopped.")],
)
def test_an_error_stands_in_no_bar(impatient: None, error: BaseException, last: str) -> None:
    def main(argv: list[str]) -> int:
        for item in progress(range(9), "rows"):
            if item == 5:
                raise error
        return 0

    with terminal(60) as screen, pytest.raises(SystemExit):
        run_script(main)
    assert any(line.startswith("rows:") for line in screen.drawn) and screen.lines() == [last]


def test_a_closed_stdout_takes_all_that_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `>&-` leaves it."""

    def main(argv: list[str]) -> int:
        say(f"{[*progress(range(9), 'rows')]}")
        return 0

    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 0


def test_ctrl_c_in_a_step_says_how_to_go_on_below_no_bar(
    world: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = train_multitask.learning_rate

    def interrupted(step: int, *rest: object) -> float:
        if step == 5:
            raise KeyboardInterrupt
        return rate(step, *rest)

    monkeypatch.setattr(train_multitask, "learning_rate", interrupted)
    monkeypatch.setattr("sys.argv", ["train_multitask.py", *arguments(world, "--name", "cut")])
    with terminal(80) as screen, pytest.raises(SystemExit):
        run_script(train_multitask.main)
    whole = world / "runs/cut"
    assert screen.lines()[-2:] == [
        f"stopped at step 5 of 20; go on with --resume {whole}",
        "stopped.",
    ]


def test_quiet_runs_draw_nothing(world: Path, impatient: None) -> None:
    with terminal(80) as screen:
        run(world, "--quiet", "--epochs", "1", "--skip-predictions")
    assert screen.lines() == [] and not any(screen.drawn)


def test_a_loop_without_a_name_shows_nothing(impatient: None) -> None:
    with terminal(80) as screen:
        assert list(progress(range(3), "")) == [0, 1, 2]
    assert not any(screen.drawn)


def test_elsewhere_a_line_a_minute_counts_the_items(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock: Iterator[int] = iter(range(0, 10**6, 25))
    monkeypatch.setattr("minbert.progress.time.monotonic", lambda: next(clock))
    assert list(progress(range(2000, 2007), "dev rows")) == list(range(2000, 2007))
    assert capsys.readouterr().out == "dev rows: 3 of 7\ndev rows: 6 of 7\n"


def test_groups_count_by_their_rows(impatient: None) -> None:
    with terminal(60) as screen:
        for _ in progress([[1, 2], [3], [4, 5, 6]], "rows", size=len):
            pass
    assert any(re.match(r"rows: +33%.* 2/6 ", line) for line in screen.drawn)


def test_elsewhere_a_line_a_minute_tells_of_the_steps(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("minbert.run.steps.LINE_EVERY_S", 0)
    run(world, "--name", "told", "--skip-predictions")
    number = r"-?\d\.\d{3}"
    lines = re.findall(
        rf"^step (\d+) of 20; loss: sst {number}(?:, sts {number})?; "
        rf"last scores: SST {number}  STS {number}  mean {number}  2024 form {number}; "
        r"(\S+ \S+) left$",
        capsys.readouterr().out, re.M,
    )  # fmt: skip
    assert [int(step) for step, _ in lines] == list(range(1, 21))
    assert lines[-1][1] == "0.0 seconds"


def test_parts_of_a_bar_are_left_out_whole() -> None:
    parts = ["1 of 20", "2.0 hours left", "sst 1.609"]
    assert leading(parts, 80) == "1 of 20, 2.0 hours left, sst 1.609"
    assert leading(parts, 33) == "1 of 20, 2.0 hours left"
    assert leading(parts, 6) == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.44, "0.4 seconds"), (45, "45 seconds"), (90, "1.5 minutes"), (60 * 89, "89.0 minutes"),
        (60 * 765, "12.8 hours"), (86400 * 4, "4.0 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_finished_run_that_is_resumed_says_so(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other threads and other printing are no reason to refuse it; more epochs are."""
    folder = world / "runs/whole"
    run(world, "--name", "whole", "--epochs", "1", "--seeds", "2", "--skip-predictions")
    capsys.readouterr()
    train_multitask.main(["--resume", str(folder), "--threads", "1"])
    out = capsys.readouterr().out
    for seed in (11711, 11712):
        one = folder / f"seed-{seed}"
        new = f"to train on, start a new run from it: --model {one}\n"
        assert f"{one} is finished: step 10 of 10; {new}" in out
    with pytest.raises(UserError, match=rf"--epochs 9 differs .* --model {folder}/seed-11711$"):
        train_multitask.main(["--resume", str(folder), "--epochs", "9"])


def test_finished_pre_training_says_so(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain_mlm.main([*mlm_arguments(world), "--name", "text"])
    assert "is finished" not in capsys.readouterr().out
    pretrain_mlm.main(["--resume", str(world / "runs/text")])
    out = capsys.readouterr().out
    assert re.search(r"text is finished: step (\d+) of \1; .*--model \S+/runs/text\n", out)


def test_time_left_and_rates_are_by_the_steps_of_this_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run that goes on at step 90 of 100, in steps of 2 seconds."""
    now = [0.0]
    monkeypatch.setattr("minbert.run.steps.time", SimpleNamespace(monotonic=lambda: now[0]))
    shown = Progress(100, 90, quiet=True, device=torch.device("cpu"))
    shown.print_rates()
    assert not shown.rates() and not capsys.readouterr().out  # as of a finished run
    for step in range(91, 96):
        now[0] += 2
        shown.step(StepRecord(step, "sst", None, 0.1, 1, 10, 60, 0.0), None, 2.0)
    assert shown.time_left() == "10 seconds"
    assert shown.rates() == {"examples_per_s": 5.0, "tokens_per_s": 30.0}
    shown.print_rates()
    assert capsys.readouterr().out == "5 examples/s, 30 real tokens/s\n"
