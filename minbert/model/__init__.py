"""Batch -> tensors; knows no data."""
