"""Published networks that judge pictures, key-compatible with their released files, and how files of theirs are read.

None of their weights come with vivant, and none is fetched: `--weights NAME=PATH` says where they are. What is
not given is not measured, and reports say so.
"""
