"""STS: how similar in meaning are two sentences, 0 to 5. Labels stay floats (4.6 is not 4)."""

from minbert.task.kinds import scores

STS = scores(
    name="sts",
    title="STS",
    files={"train": "sts-train.csv", "dev": "sts-dev.csv", "test": "sts-test-student.csv"},
    texts=("sentence1", "sentence2"),
    label="similarity",
    range=(0, 5),
    prediction_header="Predicted_Similiary",  # the course's spelling
)
