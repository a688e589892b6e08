"""Models as orientc finds them (hub id, folder, GGUF, demo): table, loading, module swap, compact folders both ways.

May import `storage` and what lies below it.
"""
