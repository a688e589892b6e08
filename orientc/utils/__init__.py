"""Helpers that know nothing of tables: atomic files, JSON documents, processes, devices, progress, messages, versions.

May import `errors` and `_version`.
"""
