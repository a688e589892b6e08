"""Tune an artifact: its floats are trained until the model with it says again what the original model says.

The original model is the teacher, a copy that shares all its numbers but the table is the student, and of that only the
artifact's floats train: latents, or scales and offsets, the decoder, rows kept. Codes stay as they are. The
text's last part is held out: by the loss on it, of the numbers as they would be stored, the best state is kept, the
untuned one among the candidates, and training ends where nothing is gained any more.
"""
