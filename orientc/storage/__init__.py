"""Everything orientc keeps on disk: artifacts, calibrations, records, the runs folder, and the sizes they report.

Knows names and settings, no configs. May import `methods` and what lies below it.
"""
