"""What instruments measured, as pictures and films. `style` says how they look."""
