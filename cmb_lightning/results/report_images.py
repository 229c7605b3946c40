"""Maps as pictures in a page: small, crisp and without axes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from cmb_lightning.results.figures import planck_colours
from cmb_lightning.results.projection import image_of, mollweide_pixels, patch_pixels, patch_size

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SUPERSAMPLING = 2
GREY = (201, 206, 212)


def residual_colours() -> Colormap:
    """Blue to red through white."""
    from matplotlib import colormaps

    return colormaps["RdBu_r"]


def mollweide_image(values: np.ndarray, limit: float, colours: Colormap | None = None, width: int = 640) -> str:
    """A map of the whole sky, as the address of a picture that holds it.

    Args:
        values: Map, shape (npix,), NESTED; NaN is grey.
        limit: The colours span - limit to + limit.
        colours: Planck's when None.
        width: Width of the picture [points].
    """
    return _picture(values, mollweide_pixels(_nside(values), width * SUPERSAMPLING), limit, colours)


def patch_image(
    values: np.ndarray, limit: float, centre: tuple[float, float], colours: Colormap | None = None, width: int = 320
) -> str:
    """A square part of a map around a centre (longitude, latitude) [degrees]; see `mollweide_image`."""
    size = patch_size(_nside(values))
    return _picture(values, patch_pixels(_nside(values), *centre, size, width * SUPERSAMPLING), limit, colours)


def colour_bar(limit: float, colours: Colormap | None = None, unit: str = "µK") -> str:
    """A bar of the colours from - limit to + limit, with numbers, as HTML."""
    shades = (colours or planck_colours())(np.linspace(0, 1, 17))[:, :3]
    stops = ", ".join("#" + "".join(f"{round(255 * c):02x}" for c in shade) for shade in shades)
    return (
        f'<div class="bar"><span>−{limit:g}</span><i style="background:linear-gradient(90deg,{stops})"></i>'
        f"<span>{limit:g} {unit}</span></div>"
    )


def svg_address(figure: Figure) -> str:
    """A drawn figure as the address of a picture that holds it."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cmb_lightning"}):  # without it no two pages of one result are alike
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(values: np.ndarray, pixels: np.ndarray, limit: float, colours: Colormap | None) -> str:
    from PIL import Image

    image = image_of(np.clip(np.asarray(values, dtype=np.float64) / limit, -1, 1), pixels)
    shades = (colours or planck_colours())((image + 1) / 2, bytes=True)[..., :3].copy()
    shades[~np.isfinite(image)] = GREY
    shades[pixels < 0] = 255
    height, width = (size // SUPERSAMPLING for size in pixels.shape)
    blocks = shades.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3)
    buffer = io.BytesIO()
    Image.fromarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8)).save(buffer, "WEBP", quality=88, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _nside(values: np.ndarray) -> int:
    return int(round((len(values) / 12) ** 0.5))
