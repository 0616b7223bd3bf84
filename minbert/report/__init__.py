"""report.html: what a run's log and findings look like, one file without network."""
