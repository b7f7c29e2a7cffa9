"""Faces in pictures: finding, following, cropping and pasting back. Knows numpy and OpenCV, no torch."""
