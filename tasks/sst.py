"""SST-5: sentiment of a sentence from a film review, 0 (very negative) to 4 (very positive)."""

from minbert.task.kinds import classification

SST = classification(
    name="sst",
    title="SST",
    files={
        "train": "ids-sst-train.csv",
        "dev": "ids-sst-dev.csv",
        "test": "ids-sst-test-student.csv",
    },
    texts=("sentence",),
    label="sentiment",
    labels=5,
    called=("negative", "somewhat negative", "neutral", "somewhat positive", "positive"),
    prediction_header="Predicted_Sentiment",
)
