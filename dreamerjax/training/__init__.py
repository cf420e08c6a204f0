"""A run: its state, how it begins, what it updates when, how it is evaluated and summed up. The loop itself is `train.py`.

May import every room but `report` and `experiment`.
"""
