"""Pure tensor functions. They import torch and nothing of ours."""
