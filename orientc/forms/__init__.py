"""The forms a model with a compressed table takes on disk, and the way out of the house: `export`."""
