"""SQuAD v1.1: its data, the sliding windows, the spans they give, and the official figures."""
