"""Records and artifacts side by side: rows, columns, tables, plots, formats and gates.

May import `evaluation` and what lies below it; never imports torch. Public: `compare`.
"""
