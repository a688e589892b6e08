"""Write a model with a compressed table as a folder that loads without orientc: compact, dense, ONNX; card and upload.

May import everything but `workflows` and `cli`. Public: `export`.
"""
