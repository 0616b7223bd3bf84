"""From a model's name or files to an encoder's parameters, and back to files."""
