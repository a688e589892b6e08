"""Records and artifacts side by side: rows, tables, plots, formats and gates.

May import `evaluation` and what lies below it; it never imports torch itself. Public: `compare`.
"""
