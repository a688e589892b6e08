"""Helpers that know nothing of tables: atomic files, processes, devices, progress, versions.

May import `errors` alone.
"""
