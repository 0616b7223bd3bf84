"""SST-5: sentiment of a sentence from a film review, 0 (very negative) to 4 (very positive)."""

from minbert.data.examples import Columns
from minbert.losses import cross_entropy
from minbert.metrics import accuracy
from tasks.base import Task, class_label, largest

SST = Task(
    name="sst",
    title="SST",
    files={
        "train": "ids-sst-train.csv",
        "dev": "ids-sst-dev.csv",
        "test": "ids-sst-test-student.csv",
    },
    columns=Columns(texts=("sentence",), label="sentiment", parse_label=class_label(5)),
    outputs=5,
    loss=cross_entropy,
    decode=largest,
    metrics={"accuracy": accuracy},
    prediction_file="sst-{split}-output.csv",
    prediction_header="Predicted_Sentiment",
)
