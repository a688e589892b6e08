"""What travels with an exported model: layout, decoding, the two modules, the module swap.

Imports torch and transformers alone, so that the files run where orientc is not installed.
"""
