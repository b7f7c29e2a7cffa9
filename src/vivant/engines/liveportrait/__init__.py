"""LivePortrait: portrait animation by warping an appearance volume with implicit keypoints."""
