"""Distil the original model into an artifact: train the artifact until the model with it predicts the same.

May import `calibration` and what lies below it. Public: `tune`.
"""
