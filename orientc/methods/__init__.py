"""The methods: tensors in, a compressed table out. They know nothing of files, models or the terminal.

`README.md` here explains them, with formulas and results. May import `modeling`, `utils` and `errors`.
"""
