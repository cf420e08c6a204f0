"""How every figure looks."""

from __future__ import annotations

# Okabe and Ito's colours, told apart by colour-blind readers too, without yellow, which is faint on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3a3a3a")
REAL, IMAGINED, GREY = "#1b6ca8", "#d9822b", "#8a8f98"
