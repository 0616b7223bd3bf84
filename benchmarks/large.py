"""The memory of a bert-large-sized encoder's training steps, with and without what saves memory."""

import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.contest import run_contest
from benchmarks.contestants import Places, ours
from benchmarks.report import Section, target_line
from minbert import BertConfig, BertModel, BertTokenizer

LARGE = BertConfig(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
)
SAVING = {
    "as it is": (),
    "--accumulate 4": ("--accumulate", "4"),
    "--checkpoint-activations": ("--checkpoint-activations",),
    "both": ("--accumulate", "4", "--checkpoint-activations"),
}


def memory_large(places: Places) -> Section:
    """Measure the peak of two steps: the optimizer's state exists from the first one on."""
    gib = {}
    with tempfile.TemporaryDirectory() as folder:
        BertModel(LARGE).save_pretrained(folder)
        BertTokenizer.from_directory(Path(places.model)).save(
            Path(folder), LARGE.max_position_embeddings
        )
        base = ("--model", folder, "--tasks", "quora", "--limit", "quora=1000")
        for name, options in SAVING.items():
            one = ours(name, places, *base, *options)
            outcome = run_contest([replace(one, settings=one.settings | {"steps": 1})], 1)[name]
            gib[name] = outcome.peak_mib / 1024
    rows = tuple((name, f"{size:.1f}") for name, size in gib.items())
    least = min(gib.values())
    line = target_line("the least of them", "8 GiB at most", f"{least:.1f} GiB", least <= 8)
    title = "Memory of a bert-large-sized model, random weights, batches of 32 pairs of Quora"
    return Section(title, ("", "peak GiB"), rows, (line,))
