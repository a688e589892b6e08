"""One config per method, and the one place where a table is fitted and the artifact stored.

May import `models` and what lies below it. Public: `compress`, `svd`, `quantize` and the configs.
"""
