"""Crops of a picture: a part of it, resized, mirrored, with other brightness and colours.

Legend: B pictures, N and M tokens, K = patch * patch * C channels, H x W pixels, h x w of the crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import positions
from broadbase.modalities.noise import Hide

Share = Annotated[float, Field(ge=0, le=1)]
CHANCES = 9  # uniform numbers that a crop takes
ASPECT = math.log(4 / 3)  # of a crop: 3/4 to 4/3 (Szegedy et al. 2015)
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


class CropsConfig(Config):
    """Settings of the random changes of a crop; the defaults are those of DINO for photographs."""

    flip: Share = 0.5
    """How often a crop is mirrored."""
    light: Share = 0.8
    """How often brightness, contrast and saturation change."""
    brightness: Share = 0.4
    """The most that brightness changes, by a factor from 1 - this to 1 + this."""
    contrast: Share = 0.4
    """The most that contrast changes, by a factor as for brightness."""
    saturation: Share = 0.2
    """The most that saturation changes, by a factor as for brightness."""
    grey: Share = 0.2
    """How often a crop loses its colours."""


@dataclass(frozen=True)
class Crops(Hide):
    """The corruption of pictures of one size, each of a start and rows * columns patches."""

    config: CropsConfig = field(default_factory=CropsConfig)
    rows: int = 1
    columns: int = 1
    patch: int = 1
    mean: tuple[float, ...] = (0.0,)  # what pixels of [0, 1] are normalised by, in `values`
    deviation: tuple[float, ...] = (1.0,)

    def crop(
        self, values: Tensor, scale: float, area: tuple[float, float], draws: KeyedRandom, name: str
    ) -> tuple[Tensor, Tensor]:
        """Return bilinear samples of random boxes [B,M,K], and their positions [B,M,3].

        Positions count from the corner of the crop, so neighbouring patches are one step apart, as
        in a full picture.
        """
        if values.shape[1] != 1 + self.rows * self.columns:
            raise ConfigError(
                f"a crop is of a picture of {self.rows} x {self.columns} patches and its start,"
                f" and a row has {values.shape[1]} tokens; set data.sources.NAME.sequence_length to"
                f" {1 + self.rows * self.columns}"
            )
        grid = max(1, round(scale * self.rows)), max(1, round(scale * self.columns))
        chance_B = draws.uniform(name, len(values), CHANCES).to(values.dtype).unbind(dim=1)
        x_BCHW = self._pixels(values[:, 1:])
        box = boxes(chance_B[:4], area, mirrored=chance_B[4] < self.config.flip)
        size = (*x_BCHW.shape[:2], grid[0] * self.patch, grid[1] * self.patch)
        where = F.affine_grid(box, list(size), align_corners=False)
        x_BCHW = F.grid_sample(x_BCHW, where, padding_mode="border", align_corners=False)
        patches = self._patches(self._lit(x_BCHW, chance_B[5:]))
        position = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions(grid)])
        return torch.cat([values[:, :1], patches], dim=1), position.expand(len(values), -1, -1)

    def _pixels(self, values_BNK: Tensor) -> Tensor:
        (R, C), p = (self.rows, self.columns), self.patch
        x = values_BNK.reshape(len(values_BNK), R, C, p, p, -1)
        x = (x * x.new_tensor(self.deviation) + x.new_tensor(self.mean)).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(len(x), x.shape[1], R * p, C * p)

    def _patches(self, x_BCHW: Tensor) -> Tensor:
        (B, C, H, W), p = x_BCHW.shape, self.patch
        x = x_BCHW.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 3, 5, 1)
        x = (x - x.new_tensor(self.mean)) / x.new_tensor(self.deviation)
        return x.reshape(B, (H // p) * (W // p), p * p * C)

    def _lit(self, x_BCHW: Tensor, chance_B: tuple[Tensor, ...]) -> Tensor:
        """Change brightness, contrast and saturation by random factors, some pictures by none."""
        c = self.config
        changed = chance_B[3] < c.light

        def factor(chance: Tensor, most: float) -> Tensor:
            by = torch.where(changed, 1 + most * (2 * chance - 1), torch.ones_like(chance))
            return by[:, None, None, None]

        x = x_BCHW * factor(chance_B[0], c.brightness)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = mean + (x - mean) * factor(chance_B[1], c.contrast)
        if x.shape[1] >= len(LUMA):
            luma = x.new_tensor(LUMA)[None, :, None, None]
            grey = (x[:, :3] * luma).sum(dim=1, keepdim=True)
            keep = factor(chance_B[2] / max(1 - c.grey, 1e-9), c.saturation)
            lost = (chance_B[2] >= 1 - c.grey)[:, None, None, None]
            colour = grey + (x[:, :3] - grey) * torch.where(lost, 0, keep)
            x = torch.cat([colour, x[:, 3:]], dim=1)
        return x.clamp(0, 1)


def boxes(chance_B: tuple[Tensor, ...], area: tuple[float, float], mirrored: Tensor) -> Tensor:
    """Return random boxes of `area[0]` to `area[1]` of a picture's area, as affine maps [B,2,3].

    A map takes the crop's coordinates to the picture's, both from -1 to 1 between their edges.
    """
    share_B = area[0] + (area[1] - area[0]) * chance_B[0]
    aspect_B = (ASPECT * (2 * chance_B[1] - 1)).exp()
    height_B = (share_B / aspect_B).sqrt().clamp(max=1)
    width_B = (share_B * aspect_B).sqrt().clamp(max=1)
    y_B = (1 - height_B) * (2 * chance_B[2] - 1)
    x_B = (1 - width_B) * (2 * chance_B[3] - 1)
    nothing_B = torch.zeros_like(y_B)
    across = torch.stack([torch.where(mirrored, -width_B, width_B), nothing_B, x_B], dim=-1)
    return torch.stack([across, torch.stack([nothing_B, height_B, y_B], dim=-1)], dim=1)
