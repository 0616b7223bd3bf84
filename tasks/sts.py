"""STS: how similar in meaning are two sentences, 0 to 5. Labels stay floats (4.6 is not 4)."""

from minbert.data.examples import Columns
from minbert.losses import mean_squared_error
from minbert.metrics import pearson, spearman
from tasks.base import Task, score_label, value

STS = Task(
    name="sts",
    title="STS",
    files={"train": "sts-train.csv", "dev": "sts-dev.csv", "test": "sts-test-student.csv"},
    columns=Columns(("sentence1", "sentence2"), label="similarity", parse_label=score_label(0, 5)),
    outputs=1,
    loss=mean_squared_error,
    decode=value,
    metrics={"pearson": pearson, "spearman": spearman},
    prediction_file="sts-{split}-output.csv",
    prediction_header="Predicted_Similiary",  # the course's spelling
)
