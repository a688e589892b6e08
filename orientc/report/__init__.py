"""Comparisons for people and programs: tables as text, Markdown, CSV and HTML, and plots."""
