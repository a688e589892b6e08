"""Measure a model with and without a compressed table: perplexity, sentence similarity, GLUE and SQuAD.

May import `models` and what lies below it (a fit is none of its business).
Public: `perplexity`, `similarity`, `glue`, `squad`; a config each in `configs`.
"""
