"""STS: how similar in meaning are two sentences, 0 to 5. Labels stay floats (4.6 is not 4)."""

from minbert.task.taskfile import make_task

TABLE = {
    "kind": "pair-similarity",
    "title": "STS",
    "train": "sts-train.csv",
    "dev": "sts-dev.csv",
    "test": "sts-test-student.csv",
    "text": ["sentence1", "sentence2"],
    "label": "similarity",
    "range": [0, 5],
    "id": "id",
    "prediction_header": "Predicted_Similiary",  # the course's spelling
    "course": True,
}
STS = make_task("sts", TABLE)
