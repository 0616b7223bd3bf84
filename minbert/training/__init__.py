"""torch only; knows nothing of BERT or text."""
