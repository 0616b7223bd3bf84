"""Quora question pairs: do the two questions ask the same?"""

from minbert.task.taskfile import make_task

TABLE = {
    "kind": "pair-classification",
    "title": "Quora",
    "train": "quora-train.csv",
    "dev": "quora-dev.csv",
    "test": "quora-test-student.csv",
    "text": ["sentence1", "sentence2"],
    "label": "is_duplicate",
    "labels": 2,
    "id": "id",
    "display_names": ["different", "duplicate"],
    "prediction_file": "para-{split}-output.csv",
    "prediction_header": "Predicted_Is_Paraphrase",
    "course": True,
}
QUORA = make_task("quora", TABLE)
