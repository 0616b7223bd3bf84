"""CFIMDB: sentiment of whole film reviews and of their counterfactual rewritings, 0 or 1."""

from minbert.task.kinds import classification

CFIMDB = classification(
    name="cfimdb",
    title="CFIMDB",
    files={
        "train": "ids-cfimdb-train.csv",
        "dev": "ids-cfimdb-dev.csv",
        "test": "ids-cfimdb-test-student.csv",
    },
    texts=("sentence",),
    label="sentiment",
    labels=2,
    called=("negative", "positive"),
    prediction_header="Predicted_Sentiment",
)
