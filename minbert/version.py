"""The version, for the card of a run and for setup.py, where minbert is not installed yet."""

VERSION = "0.1.0"
