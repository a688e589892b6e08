"""Measure how a model uses its table: token counts, and importance matrices from gradients on text.

May import `evaluation` and what lies below it. Public: `calibrate`.
"""
