"""Quora question pairs: do the two questions ask the same?"""

from minbert.task.kinds import classification

QUORA = classification(
    name="quora",
    title="Quora",
    files={"train": "quora-train.csv", "dev": "quora-dev.csv", "test": "quora-test-student.csv"},
    texts=("sentence1", "sentence2"),
    label="is_duplicate",
    labels=2,
    called=("different", "duplicate"),
    prediction_file="para-{split}-output.csv",
    prediction_header="Predicted_Is_Paraphrase",
)
