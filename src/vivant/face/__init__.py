"""Faces in pictures: finding, following, cropping and pasting back, with numpy and OpenCV (see README.md)."""
