"""What a step is made of; knows nothing of BERT or text."""
