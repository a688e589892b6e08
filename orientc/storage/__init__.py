"""Everything orientc keeps on disk: artifacts, calibrations, records, the runs folder; and the arithmetic of sizes.

`README.md` here describes the files. Knows names and settings, no configs. May import `methods` and what lies below.
"""
