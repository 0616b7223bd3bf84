"""text -> Batch; knows no model."""
