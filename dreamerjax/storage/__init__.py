"""What a run writes and reads back: checkpoints through orbax, metrics and where else they go, the display."""
