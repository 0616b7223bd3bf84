"""CFIMDB: sentiment of whole film reviews and of their counterfactual rewritings, 0 or 1."""

from minbert.task.taskfile import make_task

TABLE = {
    "kind": "classification",
    "title": "CFIMDB",
    "train": "ids-cfimdb-train.csv",
    "dev": "ids-cfimdb-dev.csv",
    "test": "ids-cfimdb-test-student.csv",
    "text": "sentence",
    "label": "sentiment",
    "labels": 2,
    "id": "id",
    "display_names": ["negative", "positive"],
    "prediction_header": "Predicted_Sentiment",
    "course": True,
}
CFIMDB = make_task("cfimdb", TABLE)
