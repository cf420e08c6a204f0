"""What instruments measured, as pictures and films. `style` says how they look.

May import `diagnostics` and what lies below.
"""
