"""The paper's tables as recipes that run, stop and go on."""
