"""The log of a run that goes on: of what its checkpoint lacks nothing stays."""

import json
from pathlib import Path

import pytest

import train_multitask
from minbert.files import read_json_lines as read_log
from minbert.run.runlog import RunLog
from tests.conftest import logged, run


def test_a_log_of_a_run_without_a_checkpoint_lacks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.jsonl").write_text('{"event": "start", "step": 0}\n')
    RunLog(tmp_path / "log.jsonl", -1, -1, False)
    assert capsys.readouterr().out == ""


def test_evaluations_and_ends_are_logged_once(world: Path) -> None:
    """Killed after an evaluation's line, before its checkpoint; and gone on with at its end."""
    run(world, "--name", "run", "--epochs", "1")
    log = world / "runs/run/log.jsonl"
    train_multitask.main(["--resume", str(world / "runs/run")])
    events = [line["event"] for line in read_log(log)]
    assert events.count("end") == 1 and events.count("dev") == 2
    RunLog(log, 10, assessed=0).file.close()  # the checkpoint of step 10 knows of none since 0
    stages = [line["stage"] for line in read_log(log) if line["event"] == "dev"]
    assert stages == ["before training"]


@pytest.mark.parametrize(
    ("event", "values"),
    [
        ("mean-dev", {"stage": "epoch 1", "scores": {"sst": {"accuracy": 0.5}}, "overall": 0.5}),
        ("held-out", {"accuracy": 0.5, "perplexity": 2.0}),
    ],
)
def test_an_evaluation_that_the_checkpoint_lacks_is_logged_once(
    tmp_path: Path, event: str, values: dict[str, object]
) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"event": event, "step": step, **values} for step in (0, 10)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    RunLog(log, 10, assessed=0).file.close()  # the run goes on at step 10, and evaluates it
    assert [line["step"] for line in logged(tmp_path, event)] == [0]


def test_steps_whose_lines_are_missing_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step of joint mode has several lines."""
    log, step = tmp_path / "log.jsonl", {"event": "step", "loss": 0.5, "lr": 0.1, "tokens": 9}
    log.write_text("".join(json.dumps({**step, "step": n}) + "\n" for n in (1, 2, 2, 4)))
    RunLog(log, 5, assessed=0).file.close()
    assert "the lines of 2 steps are missing; the others are kept\n" in capsys.readouterr().out
    assert len(logged(tmp_path, "step")) == 4
