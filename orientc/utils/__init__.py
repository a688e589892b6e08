"""Helpers that know nothing of tables: atomic files, processes, devices, progress, messages, versions.

May import `errors` and `_version`.
"""
