"""The numerical methods: tensors in, a compressed table out. They know nothing of files, models or the terminal.

May import `modeling`, `utils` and `errors`.
"""
