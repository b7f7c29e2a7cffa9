"""Every metric of the reenactment protocols: what it says, what it needs, which way is better, what it compares with.

Reports name from here what was not measured and why. A change of definition raises the metric's version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vivant.evaluation.judges.given import Judges

SELF, CROSS, LONG = "self", "cross", "long"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a report."""

    name: str
    says: str
    better: Literal["higher", "lower", "near 1", "near 0"]
    range: str
    """What values there are, with the unit."""
    protocols: tuple[str, ...] = (SELF, CROSS, LONG)
    needs: str = ""
    """The name of `--weights` without which it is not measured; "" for nothing."""
    needs_else: str = ""
    """What else it needs, in words."""
    comparable: str = "no"
    """Whether numbers of papers can be set beside it."""
    version: int = 1


_OURS = "no: our own measure"
CATALOGUE: tuple[Metric, ...] = (
    Metric(
        name="psnr",
        says="10 log10(1 / mean squared error) against the true picture",
        better="higher",
        range="0 to 100 dB",
        protocols=(SELF,),
        comparable="on the same clips and crop",
    ),
    Metric(
        name="ssim",
        says="structural similarity, Gaussian window, per colour",
        better="higher",
        range="-1 to 1",
        protocols=(SELF,),
        comparable="on the same clips and crop",
    ),
    Metric(
        name="l1",
        says="mean absolute difference",
        better="lower",
        range="0 to 1",
        protocols=(SELF,),
        comparable="on the same clips and crop",
    ),
    Metric(
        name="lpips_alex",
        says="LPIPS 0.1 with AlexNet, the one of the LivePortrait paper",
        better="lower",
        range="0 to about 1",
        protocols=(SELF,),
        needs="lpips-alex",
        comparable="on the same clips and crop",
    ),
    Metric(
        name="lpips_vgg",
        says="LPIPS 0.1 with VGG16",
        better="lower",
        range="0 to about 1",
        protocols=(SELF,),
        needs="lpips-vgg",
        comparable="on the same clips and crop",
    ),
    Metric(
        name="csim",
        says="cosine of ArcFace embeddings: to the true picture, or to the portrait where cross or long is given one",
        better="higher",
        range="-1 to 1",
        needs="arcface",
        comparable="with the same recognition weights",
    ),
    Metric(
        name="csim_own",
        says="the same with our own small embedding",
        better="higher",
        range="-1 to 1",
        needs="identity",
        comparable=_OURS,
    ),
    Metric(
        name="texture",
        says="correlation of luma with the portrait, the face laid back onto its mesh",
        better="higher",
        range="-1 to 1",
        comparable=_OURS,
    ),
    Metric(
        name="fid",
        says="Frechet distance of Inception features: to the true pictures (self), to the pictures of --real (cross)",
        better="lower",
        range="0 and up",
        protocols=(SELF, CROSS),
        needs="inception",
        needs_else="--real FOLDER of two pictures or more in cross-reenactment",
        comparable="at equal numbers of the same pictures",
    ),
    Metric(
        name="fvd25",
        says="Frechet distance of features of 25 frames, to those of the driving clips",
        better="lower",
        range="0 and up",
        needs="clips",
        needs_else="two runs of 25 frames in a row",
        comparable="with I3D, at equal numbers of the same clips",
    ),
    Metric(
        name="aed",
        says="mean absolute difference of expression coefficients to the driver's",
        better="lower",
        range="0 and up",
        needs="coefficients",
        comparable="with SMIRK as the script",
    ),
    Metric(
        name="apd",
        says="mean absolute difference of pose coefficients to the driver's",
        better="lower",
        range="0 and up",
        needs="coefficients",
        comparable="with SMIRK as the script",
    ),
    Metric(
        name="mae",
        says="angle between eye directions of output and driver",
        better="lower",
        range="0 to 180 degrees",
        needs="gaze",
        comparable="with the paper's gaze network as the script",
    ),
    Metric(
        name="aed_mesh",
        says="distance of the mesh in the head's frame to the driver's, hundredths of the outer eye distance",
        better="lower",
        range="0 and up",
        comparable=_OURS,
    ),
    Metric(
        name="apd_mesh",
        says="mean difference of yaw, pitch and roll of the face's rigid part to the driver's",
        better="lower",
        range="0 and up, degrees",
        comparable=_OURS,
    ),
    Metric(
        name="gaze_mesh",
        says="angle between eye directions relative to the head, from irises and eye corners",
        better="lower",
        range="0 to 180 degrees",
        comparable=_OURS,
    ),
    Metric(
        name="eye_error",
        says="difference of lid gap over eye width, mean of both eyes",
        better="lower",
        range="0 to about 0.4",
        comparable=_OURS,
    ),
    Metric(
        name="lip_error",
        says="difference of inner lip distance over outer eye distance",
        better="lower",
        range="0 to about 0.6",
        comparable=_OURS,
    ),
    Metric(
        name="lmd_mesh",
        says="distance of the 468 mesh points to those of the true picture, at 256 px",
        better="lower",
        range="0 and up, pixels",
        protocols=(SELF,),
        comparable="LMD of papers: same points, size of picture not given there",
    ),
    Metric(
        name="jitter_over_driver",
        says="second difference of the mesh over the driver's",
        better="near 1",
        range="0 and up",
        comparable=_OURS,
        version=2,  # 1 took scored frames, which may lie apart
    ),
    Metric(
        name="share_without_face",
        says="share of scored frames in which the driver has a face and the output none",
        better="lower",
        range="0 to 1",
        comparable=_OURS,
    ),
    Metric(
        name="tlp",
        says="100 x difference of the LPIPS change from frame to frame to the driver's",
        better="lower",
        range="0 and up",
        needs="lpips-alex",
        comparable="in self-reenactment; papers do not define it between people",
    ),
    Metric(
        name="tl1",
        says="the same with mean absolute change in the place of LPIPS",
        better="lower",
        range="0 and up",
        comparable=_OURS,
    ),
    Metric(
        name="border_ratio",
        says="change where a chunk begins over change inside chunks",
        better="near 1",
        range="0 and up",
        needs_else="a family that draws in chunks of two frames or more",
        comparable=_OURS,
        version=2,  # 1 took the first chunk to be whole, which it is not where the delay is no multiple of it
    ),
    Metric(
        name="sync_confidence",
        says="SyncNet's confidence (S_C, LSE-C) against the driver's sound",
        better="higher",
        range="0 and up",
        needs="syncnet",
        needs_else="clips with sound and a face in every frame",
        comparable="nearly: the square comes from our mesh, not from S3FD",
    ),
    Metric(
        name="sync_distance",
        says="SyncNet's distance (S_D, LSE-D)",
        better="lower",
        range="0 and up",
        needs="syncnet",
        needs_else="clips with sound and a face in every frame",
        comparable="nearly: the square comes from our mesh, not from S3FD",
    ),
    Metric(
        name="sync_expert_confidence",
        says="the same confidence with the lip-sync expert",
        better="higher",
        range="0 and up",
        needs="sync-expert",
        needs_else="clips with sound and a face in every frame",
        comparable=_OURS,
    ),
    Metric(
        name="sync_expert_distance",
        says="the same distance with the lip-sync expert",
        better="lower",
        range="0 to 2",
        needs="sync-expert",
        needs_else="clips with sound and a face in every frame",
        comparable=_OURS,
    ),
    Metric(
        name="capp",
        says="agreement of head pose and speech (VASA-1)",
        better="higher",
        range="-1 to 1",
        needs_else="weights that were never published; any retrained pair of encoders is another measure",
        comparable="no: not measured at all",
    ),
    Metric(
        name="sharpness_drift",
        says="mean absolute Laplacian, last seconds against the first",
        better="near 0",
        range="-1 and up, relative",
        protocols=(LONG,),
        needs_else="clips twice as long as the seconds compared",
        comparable=_OURS,
    ),
    Metric(
        name="colour_drift",
        says="Delta E 1976 between mean colours of first and last seconds",
        better="lower",
        range="0 and up",
        protocols=(LONG,),
        needs_else="clips twice as long as the seconds compared",
        comparable=_OURS,
    ),
    Metric(
        name="texture_drift",
        says="texture, last seconds against the first",
        better="near 0",
        range="relative",
        protocols=(LONG,),
        needs_else="clips twice as long as the seconds compared",
        comparable=_OURS,
    ),
    Metric(
        name="identity_drift",
        says="csim_own to the portrait, last seconds against the first",
        better="near 0",
        range="relative",
        protocols=(LONG,),
        needs="identity",
        needs_else="clips twice as long as the seconds compared",
        comparable=_OURS,
    ),
)


def measured_in(protocol: str) -> Iterable[Metric]:
    """The metrics of a protocol: "self", "cross" or "long"."""
    return (metric for metric in CATALOGUE if protocol in metric.protocols)


def reason_not_measured(metric: Metric, judges: Judges) -> str:
    """Why a number is missing, in words for a report."""
    if metric.needs and metric.needs not in judges.names:
        return f"needs --weights {metric.needs}=PATH" + (
            f" and {metric.needs_else}" if metric.needs_else else ""
        )
    return f"needs {metric.needs_else}" if metric.needs_else else "no frame of any clip could be measured"
