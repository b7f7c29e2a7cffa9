"""Kernels in Triton, which comes with torch for CUDA. Imported only by `vivant.ops.fused`, where there is a GPU."""
