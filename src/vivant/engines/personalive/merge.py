"""The start of stage 1 from two runs made side by side: the VAE's export, with the pose network of the other.

python -m vivant.engines.personalive.merge VAE_EXPORT POSE_EXPORT -o FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vivant import checkpoint
from vivant.engines.personalive.config import Config
from vivant.engines.personalive.networks import Networks


def merge(vae: Path, pose: Path, folder: Path) -> None:
    """Write the checkpoint `vae` with the motion extractor of `pose`. Raises CheckpointError where configs differ."""
    config, networks = checkpoint.load(vae, Config, Networks)
    other = checkpoint.load_same(pose, config, Networks, f"that made {vae}")
    prefix = "motion_extractor."
    learned = {name: value for name, value in other.state_dict().items() if name.startswith(prefix)}
    networks.load_state_dict(networks.state_dict() | learned)
    checkpoint.save(folder, "personalive", config, networks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vae", type=Path)
    parser.add_argument("pose", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    merge(given.vae, given.pose, given.out)


if __name__ == "__main__":
    main()
