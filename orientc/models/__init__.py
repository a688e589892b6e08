"""Models (hub id, local folder, GGUF file, demo): finding and loading them, their tables, module swap, compact models.

May import `storage` and what lies below.
"""
