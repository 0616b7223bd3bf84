"""The version, for a run's card and for setup.py: there without the package being installed."""

VERSION = "0.1.0"
