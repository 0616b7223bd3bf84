"""The checks of evaluate.py's flags; see tests/flag_checks.py."""

import torch

from tasks.sst import SST
from tests.flags import (
    Row,
    last_json,
    refused,
    uses_one_thread,
)

EVALUATE: dict[str, Row] = {
    "checkpoint": ("--checkpoint run", lambda run, _: "overall: raw mean" in run.out),
    "text": ("--checkpoint run --text red", lambda run, _: run.out.startswith("SST")),
    "pair": ("--checkpoint run --pair red blue", lambda run, _: run.out.startswith("STS")),
    "input": (
        "--checkpoint run --task sst --input lines.txt",
        lambda run, _: len(run.out.splitlines()) == 2,
    ),
    "probabilities": (
        "--checkpoint run --text red --probabilities",
        lambda run, _: (
            {line[15:].strip() for line in run.out.splitlines()[1:]} == {*SST.display_classes}
        ),
    ),
    "raw": (
        "--checkpoint run --text red --raw --output raw.jsonl",
        lambda run, _: run.seen["class_probabilities"][0][0][2] == 1.0,
    ),
    "task": (
        "--checkpoint run --task sts --output of-sts",
        lambda run, _: {path.name[:4] for path in (run.place / "of-sts").iterdir()} == {"sts-"},
    ),
    "verify": ("--model model --verify reference.pt", lambda run, _: "PASS" in run.out),
    "emit": (
        "--model model --emit new.pt",
        lambda run, _: (run.place / "new.pt").is_file(),
    ),
    "score": ("--score dev.csv --gold data/ids-sst-dev.csv", lambda run, _: run.code == 0),
    "gold": ("--score dev.csv --gold data/ids-sst-dev.csv", lambda run, _: run.code == 0),
    "task_file": (
        "--score dev.csv --gold data/ids-sst-dev.csv --task-file own.toml",
        refused("own.toml"),
    ),
    "model": ("--model other --verify reference.pt", lambda run, _: "FAIL" in run.out),
    "data_dir": ("--checkpoint run --data-dir nowhere", refused("nowhere")),
    "output": (
        "--checkpoint run --output out",
        lambda run, _: len(list((run.place / "out").iterdir())) == 8,
    ),
    "precision": (
        "--checkpoint run --precision bf16",
        lambda run, _: (
            run.seen["for_inference"][0][0][1] == torch.bfloat16 and ", bf16 on" in run.out
        ),
    ),
    "threads": ("--checkpoint run --text red --threads 1", uses_one_thread),
    "device": ("--checkpoint run --device cuda:99", refused("cuda:99")),
    "max_length": (
        "--checkpoint run --max-length 4",
        lambda run, _: run.seen["load_task"][0][0][3].max_length == 4,
    ),
    "atol": (
        "--model other --verify reference.pt --atol 100",
        lambda run, _: "PASS" in run.out,
    ),
    "rtol": (
        "--model other --verify reference.pt --rtol 1e9",
        lambda run, _: "PASS" in run.out,
    ),
    "json": ("--checkpoint run --text red --json", lambda run, _: "sst" in str(last_json(run))),
    "config": ("--config text.toml", lambda run, _: run.out.startswith("SST")),
}
