"""What an exported model needs to run: layout, packing, decoding, the two modules, the module swap.

Every file here is copied into the code file of a compact export (`models/compact_code.py`), so it may import torch,
transformers and the other files of this room, and nothing else.
"""
