"""SST-5: sentiment of a sentence from a film review, 0 (very negative) to 4 (very positive)."""

from minbert.task.taskfile import make_task

TABLE = {
    "kind": "classification",
    "title": "SST",
    "train": "ids-sst-train.csv",
    "dev": "ids-sst-dev.csv",
    "test": "ids-sst-test-student.csv",
    "text": "sentence",
    "label": "sentiment",
    "labels": 5,
    "id": "id",
    "display_names": ["negative", "somewhat negative", "neutral", "somewhat positive", "positive"],
    "prediction_header": "Predicted_Sentiment",
    "course": True,
}
SST = make_task("sst", TABLE)
