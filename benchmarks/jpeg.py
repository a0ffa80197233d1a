"""What JPEG blocks cost: PSNR of restored pictures beside those enlarged plainly (bicubic).

    python benchmarks/jpeg.py --data Set5

The pictures are shrunk (bicubic), packed as JPEG (4:2:0) and restored; means of a folder.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import dmsr_cli as dmsr
from dmsr_cli.images import find_images
from dmsr_cli.metrics import psnr

QUALITIES = (20, 40, 60, 80, 95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of HR pictures")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heads = [f"x{scale}, {way}" for scale in arguments.scales for way in ("bicubic", "dmsr-lite")]
    print("| quality |", *(f"{head} |" for head in heads))
    print("|---" * (len(heads) + 1) + "|")
    models = [dmsr.load_model("dmsr-lite", scale=scale) for scale in arguments.scales]
    for quality in QUALITIES:
        scores = [score for model in models for score in means(arguments.data, model, quality)]
        print(f"| {quality} |", *(f"{score:.2f} |" for score in scores))


def means(folder: Path, model: dmsr.Model, quality: int) -> tuple[float, float]:
    """Mean PSNR on luma of bicubic and of the model, in dB."""
    pairs = [_scores(path, model, quality) for path in find_images(folder)]
    bicubic, restored = np.mean(pairs, axis=0).tolist()
    return bicubic, restored


def _scores(path: Path, model: dmsr.Model, quality: int) -> tuple[float, float]:
    scale = model.scale
    with Image.open(path) as picture:
        size = (picture.width // scale * scale, picture.height // scale * scale)
        hr = picture.convert("RGB").crop((0, 0, *size))
    file = io.BytesIO()
    small = hr.resize((size[0] // scale, size[1] // scale), Image.Resampling.BICUBIC)
    small.save(file, "jpeg", quality=quality)
    packed = Image.open(file).convert("RGB")
    plain = packed.resize(size, Image.Resampling.BICUBIC)
    restored = dmsr.upscale(_pixels(packed), model)
    return _psnr(_pixels(plain), _pixels(hr), scale), _psnr(restored, _pixels(hr), scale)


def _pixels(picture: Image.Image) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = np.asarray(picture, np.float32) / np.float32(255)
    return pixels


def _psnr(result: NDArray[np.float32], hr: NDArray[np.float32], border: int) -> float:
    left, right = (torch.from_numpy(pixels).permute(2, 0, 1)[None] for pixels in (result, hr))
    return psnr(left, right, border=border)


if __name__ == "__main__":
    main()
