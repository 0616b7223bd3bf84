"""Quora question pairs: do the two questions ask the same?"""

from minbert.data.examples import Columns
from minbert.losses import binary_cross_entropy
from minbert.metrics import accuracy, f1
from tasks.base import Task, class_label, positive

QUORA = Task(
    name="quora",
    title="Quora",
    files={"train": "quora-train.csv", "dev": "quora-dev.csv", "test": "quora-test-student.csv"},
    columns=Columns(("sentence1", "sentence2"), label="is_duplicate", parse_label=class_label(2)),
    outputs=1,
    loss=binary_cross_entropy,
    decode=positive,
    metrics={"accuracy": accuracy, "f1": f1},
    prediction_file="para-{split}-output.csv",
    prediction_header="Predicted_Is_Paraphrase",
)
