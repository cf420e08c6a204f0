"""A run: its state, how it begins, what it updates when, how it is evaluated and summed up. The loop is `train.py`."""
