"""What is collected: the replay (a NumPy ring), whole episodes, exploration, and the collector that steps environments into it.

May import `envs` and what lies below.
"""
