"""The course's four tasks as they were first, for older runs and for minbert.doctor.

A record that must not change: runs whose tasks.toml lacks these tasks are read by it. New runs
train on the tasks of the folder tasks/ and keep a copy of them in their tasks.toml.
"""

COURSE_TASKS = """\
[sst]
kind = "classification"
title = "SST"
train = "ids-sst-train.csv"
dev = "ids-sst-dev.csv"
test = "ids-sst-test-student.csv"
text = "sentence"
label = "sentiment"
labels = 5
id = "id"
display_names = [
  "negative", "somewhat negative", "neutral", "somewhat positive", "positive"
]
prediction_header = "Predicted_Sentiment"
course = true

[quora]
kind = "pair-classification"
title = "Quora"
train = "quora-train.csv"
dev = "quora-dev.csv"
test = "quora-test-student.csv"
text = ["sentence1", "sentence2"]
label = "is_duplicate"
labels = 2
id = "id"
display_names = ["different", "duplicate"]
prediction_file = "para-{split}-output.csv"
prediction_header = "Predicted_Is_Paraphrase"
course = true

[sts]
kind = "pair-similarity"
title = "STS"
train = "sts-train.csv"
dev = "sts-dev.csv"
test = "sts-test-student.csv"
text = ["sentence1", "sentence2"]
label = "similarity"
range = [0, 5]
id = "id"
prediction_header = "Predicted_Similiary"
course = true

[cfimdb]
kind = "classification"
title = "CFIMDB"
train = "ids-cfimdb-train.csv"
dev = "ids-cfimdb-dev.csv"
test = "ids-cfimdb-test-student.csv"
text = "sentence"
label = "sentiment"
labels = 2
id = "id"
display_names = ["negative", "positive"]
prediction_header = "Predicted_Sentiment"
course = true
"""
