"""What `speed.py` measures, a module for each section; `rows(options)` gives the lines of its table as they come."""
