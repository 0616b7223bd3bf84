"""Names and files -> an initialised encoder."""
