"""The accelerators that are known by name: their usual spelling, who makes them, the memory of one device.

`core.model.accelerators` respells what people ask for, `core.catalog.accelerators` what price lists say. Figures are
those of the makers' data sheets, in GiB as they are sold ("80 GB").
"""

from __future__ import annotations

from typing import NamedTuple

VENDORS = ("nvidia", "amd", "intel", "google", "aws")


class Accelerator(NamedTuple):
    """One kind of device. `memory_gib` is of one device, `None` where one name covers several sizes."""

    name: str
    vendor: str
    memory_gib: float | None
    aliases: tuple[str, ...] = ()


_NVIDIA: dict[str, float | None] = {
    "A2": 16, "A10": 24, "A10G": 24, "A16": 16, "A30": 24, "A40": 48, "A100": 40, "A100-80GB": 80, "A4000": 16,
    "A5000": 24, "A6000": 48, "B100": 192, "B200": 192, "B300": 288, "GB200": 192, "GB300": 288, "GH200": 96,
    "GTX1060": 6, "GTX1070": 8, "GTX1070Ti": 8, "GTX1080": 8, "GTX1080Ti": 11, "GTX1660": 6, "A800": 80, "H800": 80,
    "RTX2060": None, "RTX2070": 8, "RTX2080": 8, "RTX2080Ti": 11, "RTX3060Ti": 8, "RTX3070Ti": 8, "RTX3080Ti": 12,
    "RTX3090Ti": 24, "RTX4060Ti": None, "RTX4070Ti": 12, "RTX4070S": 12, "RTX4080S": 16, "RTX4090D": 24,
    "RTX4500-Ada": 24, "RTX5060Ti": None, "RTX5070": 12, "RTX5070Ti": 16, "RTX8000": 48, "TitanRTX": 24, "TitanV": 12,
    "TitanXp": 12, "RTXPRO4000": 24, "RTXPRO4500": 32, "RTXPRO5000": None,
    "H100": 80, "H100-MEGA": 80, "H100-NVL": 94, "H100-NVLINK": 80, "H100-SXM": 80, "H20": 96, "H200": 141,
    "H200-NVL": 141, "H200-SXM": 141, "K80": 12, "L4": 24, "L40": 48, "L40S": 48, "M4000": 8, "M60": 8, "P4": 8,
    "P40": 24, "P100": 16, "P4000": 8, "P5000": 16, "P6000": 24, "RTX2000-Ada": 16, "RTX3060": 12, "RTX3070": 8,
    "RTX3080": None, "RTX3090": 24, "RTX4000": 8, "RTX4000-Ada": 20, "RTX4060": 8, "RTX4070": 12, "RTX4080": 16,
    "RTX4090": 24, "RTX5000": 16, "RTX5000-Ada": 32, "RTX5080": 16, "RTX5090": 32, "RTX6000": 24, "RTX6000-Ada": 48,
    "RTXA2000": None, "RTXA4000": 16, "RTXA4500": 20, "RTXA5000": 24, "RTXA6000": 48, "RTXPRO6000": 96, "T4": 16,
    "T4g": 16, "T1000": None, "V100": 16, "V100-32GB": 32,
}  # fmt: skip
_OTHERS: dict[str, dict[str, float | None]] = {
    "amd": {
        "MI25": 16, "MI50": None, "MI100": 32, "MI200": 64, "MI210": 64, "MI250": 128, "MI300X": 192, "MI308X": 192,
        "MI325X": 256, "MI350X": 288, "MI355X": 288, "RadeonProV520": 8, "RadeonProV620": 32, "RadeonProV710": 24,
    },
    "intel": {"Gaudi": 32, "Gaudi2": 96, "Gaudi3": 128, "FlexGPU140": 12},
    "aws": {"Inferentia": 8, "Inferentia2": 32, "Trainium": 32, "Trainium2": 96, "Trainium3": 144},
}  # fmt: skip

#: Other spellings than those that differ by case, blanks, dashes, underscores, or words such as NVIDIA and Tesla.
_ALIASES: dict[str, tuple[str, ...]] = {
    "A100": ("A100-40GB", "A100-SXM4-40GB", "A100-PCIE-40GB", "A100-SXM-40GB"),
    "A100-80GB": (
        "A100-SXM4-80GB", "A100-SXM-80GB", "A100-PCIE-80GB", "A100-80GB-SXM", "A100-80GB-SXM4", "A100-80GB-PCIE",
        "A100X-80GB", "A100-80G",
    ),
    "A6000": ("QuadroA6000",),
    "Gaudi": ("HL-205", "GaudiHL-205", "Gaudi1"),
    "Gaudi2": ("HL-225", "GaudiHL-225"),
    "GH200": ("GH200-96GB", "GH200-SXM"),
    "H100": ("H100-80GB", "H100-80GB-HBM3", "H100-PCIE", "H100-PCIE-80GB"),
    "H100-SXM": ("H100-SXM5", "H100-SXM5-80GB", "H100-SXM-80GB", "H100-80GB-SXM", "H100-80GB-SXM5", "H100-HGX"),
    "H100-MEGA": ("H100-MEGA-80GB",),
    "H200": ("H200-141GB",),
    "H200-SXM": ("H200-SXM5", "H200-SXM-141GB", "H200-141GB-SXM", "H200-SXM-141G"),
    "B200": ("B200-SXM", "B200-SXM6", "B200-180GB", "B200-192GB"),
    "B300": ("B300-SXM", "B300-SXM6", "B300-288GB"),
    "Inferentia": ("Inferentia1",),
    "L4": ("L4-24GB",),
    "L40S": ("L40S-48GB",),
    "MI25": ("RadeonInstinctMI25",),
    "MI250": ("MI250X",),
    "RTX4070S": ("RTX4070-Super",),
    "RTX4080S": ("RTX4080-Super",),
    "RTX8000": ("QRTX8000",),
    "MI300X": ("MI300X-192GB", "InstinctMI300X"),
    "RTX4000-Ada": ("RTX4000-SFF-Ada", "RTX4000-Ada-Generation"),
    "RTX6000": ("RTX6000-Quadro",),
    "RTX6000-Ada": ("RTX6000-Ada-Generation", "RTX6000-Ada-48GB"),
    "RTXPRO6000": (
        "RTX-PRO-6000-Blackwell", "RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000-Server",
        "RTXPRO6000-SE", "RTX-PRO-Server-6000", "RTX6000-Pro",
    ),
    "T4": ("T4-16GB",),
    "Trainium": ("Trainium1",),
    "V100": ("V100-16GB", "V100-SXM2", "V100-SXM2-16GB", "V100-PCIE-16GB"),
    "V100-32GB": ("V100-SXM2-32GB", "V100-PCIE-32GB", "V100S-PCIE-32GB", "V100S", "V100-SXM3-32GB"),
}  # fmt: skip


def _table() -> dict[str, Accelerator]:
    made = {name: Accelerator(name, "nvidia", size, _ALIASES.get(name, ())) for name, size in _NVIDIA.items()}
    for vendor, sizes in _OTHERS.items():
        made |= {name: Accelerator(name, vendor, size, _ALIASES.get(name, ())) for name, size in sizes.items()}
    return made


#: Every known accelerator but TPUs by canonical name; a TPU is `tpu-` with generation and size, as in `tpu-v5e-8`.
ACCELERATORS: dict[str, Accelerator] = _table()


def vendor_of(name: str) -> str | None:
    """Who makes an accelerator of this canonical name."""
    if name.startswith("tpu-"):
        return "google"
    known = ACCELERATORS.get(name)
    return known.vendor if known is not None else None
