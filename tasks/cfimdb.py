"""CFIMDB: sentiment of whole film reviews and of their counterfactual rewritings, 0 or 1."""

from minbert.data.examples import Columns
from minbert.losses import cross_entropy
from minbert.metrics import accuracy
from tasks.base import Task, class_label, largest

CFIMDB = Task(
    name="cfimdb",
    title="CFIMDB",
    files={
        "train": "ids-cfimdb-train.csv",
        "dev": "ids-cfimdb-dev.csv",
        "test": "ids-cfimdb-test-student.csv",
    },
    columns=Columns(texts=("sentence",), label="sentiment", parse_label=class_label(2)),
    outputs=2,
    loss=cross_entropy,
    decode=largest,
    metrics={"accuracy": accuracy},
    prediction_file="cfimdb-{split}-output.csv",
    prediction_header="Predicted_Sentiment",
)
