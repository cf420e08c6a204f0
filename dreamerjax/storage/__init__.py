"""What a run writes and reads back: checkpoints through orbax, metrics, trackers, the display in the terminal.

May import `config` and `core`.
"""
