"""How much larger a model is than the one whose settings it takes over, by muP and CompleteP."""

from __future__ import annotations

from typing import TYPE_CHECKING


class Growth:
    """What the keys of muP and CompleteP come to, for the group that has them."""

    if TYPE_CHECKING:
        width: int
        depth: int
        mup_base_width: int | None
        mup_base_depth: int | None
        mup_depth_power: float

    @property
    def base_width(self) -> int:
        """The width that muP starts from; without muP the model's own."""
        return self.mup_base_width or self.width

    @property
    def width_growth(self) -> float:
        """How many times wider than muP's base; 1 without muP."""
        return self.width / self.base_width

    @property
    def base_depth(self) -> int:
        """The depth that CompleteP starts from; without it the model's own."""
        return self.mup_base_depth or self.depth

    @property
    def depth_growth(self) -> float:
        """How many times deeper than CompleteP's base; 1 without it."""
        return self.depth / self.base_depth

    @property
    def branch_factor(self) -> float:
        """What every branch of the residual stream is multiplied by (Dey et al. 2025, table 1)."""
        return float(self.depth_growth**-self.mup_depth_power)
