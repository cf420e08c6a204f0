"""What is collected: the replay (a NumPy ring), whole episodes, and the collector that steps environments into it."""
