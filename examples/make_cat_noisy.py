"""Make examples/cat_noisy.png from the clean picture: a slight blur, noise of level 20, 8 bits.

Run from the top of a checkout: python examples/make_cat_noisy.py CLEAN.png
"""

import sys

import torch

from dmsr_cli.degradation import degrade, gaussian_kernel
from dmsr_cli.images import read_image, write_image

clean = torch.from_numpy(read_image(sys.argv[1]).pixels[20:240, 60:380])
noisy = degrade(
    clean.permute(2, 0, 1).unsqueeze(0),
    gaussian_kernel(0.5),
    scale=1,
    noise_level=20,
    generator=torch.Generator().manual_seed(0),
)
write_image(noisy[0].permute(1, 2, 0).numpy(), "examples/cat_noisy.png")
