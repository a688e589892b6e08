"""SQuAD v1.1: questions, windows over contexts, answer spans, exact match and F1."""
